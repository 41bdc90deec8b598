"""Pictures of text alone, over a diffusers pipeline: FLUX in the formats that vllm-omni lacks, SDXL with a LoRA."""

from __future__ import annotations

import base64
import importlib
import io
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pools.modal.worker.asked import SEED_AT_MOST, Body
from pools.modal.worker.line import ClientLeft, Gone
from pools.modal.worker.server import Answer, Job, Service, json_answer

GENERATIONS: Final = "/v1/images/generations"
EDITS: Final = "/v1/images/edits"
PICTURES_AT_MOST: Final = 8
STEPS_AT_MOST: Final = 200
USUAL_SIZE: Final = (1024, 1024)
MULTIPLE: Final = 16  # of both sides, as the latents of these models need them

TILE_PIXELS: Final = 512  # of a side: a quarter of the memory that 1024 takes, overlaps of a quarter
LATENT_PIXELS: Final = 8
KEPT_WIDE: Final = ("x_embedder", "context_embedder", "time_text_embed", "norm_out", "^proj_out$")
"""FLUX's first and last layers keep 16 bits. diffusers' own choice for it also keeps what is named `norm` in every
block, the layers that shift and scale: a quarter of the model, and 3 GiB more than other programs' FP8 files take."""

Pipeline = Callable[..., Any]  # diffusers': keyword arguments in, `.images` out
Seeded = Callable[[int], Any]  # a generator of random numbers of this seed
GGUF_FILES: Final[Mapping[str, str]] = {
    "gguf-q2": "flux1-schnell-Q2_K.gguf",
    "gguf-q4": "flux1-schnell-Q4_K_S.gguf",
    "gguf-q8": "flux1-schnell-Q8_0.gguf",
}
STEPS: Final[Mapping[str, int]] = {"flux-schnell": 4, "flux-dev": 28, "sdxl-lora": 30, "instantid": 30}
"""Of a picture whose request names none, as the catalogue's seconds are about."""


@dataclass(frozen=True)
class Picture:
    """What is asked for."""

    prompt: str
    count: int
    width: int
    height: int
    steps: int
    seed: int | None

    def options(self, seeded: Seeded, gone: Gone) -> dict[str, Any]:
        """As a pipeline takes them. It raises ClientLeft after the step in which the client left."""
        chosen = {} if self.seed is None else {"generator": seeded(self.seed)}

        def look(_pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if gone():
                raise ClientLeft
            return tensors

        return {
            "prompt": self.prompt,
            "width": self.width,
            "height": self.height,
            "num_inference_steps": self.steps,
            "num_images_per_prompt": self.count,
            "callback_on_step_end": look,
            **chosen,
        }


def picture_of(body: Body, steps: int) -> Picture:
    """What a body asks for. `steps` where it names none. Raises BadRequest."""
    prompt = body.text("prompt")
    width, height = body.size(USUAL_SIZE, MULTIPLE)
    return Picture(
        prompt=prompt,
        count=body.number("n", PICTURES_AT_MOST) or 1,
        width=width,
        height=height,
        steps=body.number("num_inference_steps", STEPS_AT_MOST) or steps,
        seed=body.number("seed", SEED_AT_MOST, least=0),
    )


def pictures_service(pipeline: Pipeline, name: str, steps: int, seeded: Seeded) -> Service:
    """A pipeline of text to image."""

    def asked(body: Body) -> Job:
        picture = picture_of(body, steps)
        return lambda gone: as_answer(pipeline(**picture.options(seeded, gone)).images)

    instead = {EDITS: f"{name} makes pictures of text alone, and no edits"}
    return Service(name, {GENERATIONS: asked}, instead)


def as_answer(images: Iterable[Any]) -> Answer:
    """Pictures in OpenAI's shape."""
    return json_answer({"created": int(time.time()), "data": [{"b64_json": _png(image)} for image in images]})


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def half_precision(device: str) -> Any:
    """The type that a device computes these models in; whatever is no GPU takes 32 bits."""
    torch: Any = importlib.import_module("torch")
    if device != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def decode_in_pieces(pipeline: Any) -> None:
    """Bound what the decoder takes, which is more than what the model does: pictures one after another, and in tiles
    where it computes in 32 bits, as diffusers has it do for what cards without bfloat16 hold in 16.
    """
    pipeline.vae.enable_slicing()
    if str(pipeline.vae.dtype) == "torch.float16":
        pipeline.vae.tile_sample_min_size = TILE_PIXELS
        pipeline.vae.tile_latent_min_size = TILE_PIXELS // LATENT_PIXELS
        pipeline.vae.enable_tiling()


def stream_text_encoder(pipeline: Any, device: str) -> None:
    """T5's weights pass through the device layer by layer, once a request, and are never copied back. Measured on an
    H200 (docs/media.md): moving the parts there and back in turn took 13 s a picture.
    """
    torch: Any = importlib.import_module("torch")
    hooks: Any = importlib.import_module("diffusers.hooks")
    hooks.apply_group_offloading(
        pipeline.text_encoder_2,
        onload_device=torch.device(device),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=True,
    )


def load_pictures(repo: str, weights: str, quantization: str, lora: str | None, offload: bool, device: str) -> Pipeline:
    """The pipeline on its device; with `offload` its large text encoder stays in the host's memory."""
    diffusers: Any = importlib.import_module("diffusers")
    dtype = half_precision(device)
    parts: dict[str, Any] = {}
    if quantization in GGUF_FILES:
        file = f"https://huggingface.co/{weights}/blob/main/{GGUF_FILES[quantization]}"
        how = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
        parts["transformer"] = diffusers.FluxTransformer2DModel.from_single_file(
            file, quantization_config=how, dtype=dtype
        )
    pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(repo, dtype=dtype, **parts)
    if quantization == "fp8":
        torch: Any = importlib.import_module("torch")
        hooks: Any = importlib.import_module("diffusers.hooks")
        hooks.apply_layerwise_casting(pipeline.transformer, torch.float8_e4m3fn, dtype, skip_modules_pattern=KEPT_WIDE)
    if lora is not None:
        pipeline.load_lora_weights(lora)
    decode_in_pieces(pipeline)
    if offload:
        stream_text_encoder(pipeline, device)
    pipeline.to(device)
    made: Pipeline = pipeline
    return made
