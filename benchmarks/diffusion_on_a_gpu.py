"""What pictures and clips cost a GPU: operations, seconds and memory of the catalogue's diffusion models at full size.

    python benchmarks/diffusion_on_a_gpu.py [--only flux wan2.1-1.3b] [--json FILE]

Needs a CUDA GPU of 80 GB, PyTorch and diffusers, and downloads nothing: the classes are diffusers' own,
built with the published configurations and random weights, which take the same time and memory as trained ones. Text
encoders are left out: they run once for a request, in some hundredths of a second on a GPU.

One row is one pass of the model over one picture or clip, then one decoding of its latents. `passes` of them make a
step: two where guidance compares with and without the prompt. Memory is the peak above the weights of the part that
runs; parts run one after another, so that the larger peak is what a pool needs.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

GIB: Final = 2**30
TERA: Final = 1e12
WARM_UP: Final = 1
LONG_S: Final = 3.0  # a pass that takes longer is timed once
TIMED: Final = 5


@dataclass(frozen=True)
class Size:
    """Pixels and frames."""

    width: int
    height: int
    frames: int = 1


@dataclass(frozen=True)
class Part:
    """A module and what to call it with for each size; `call` returns a function that runs one pass."""

    build: Callable[[Any, Any], Any]  # torch, diffusers
    call: Callable[[Any, Any, Size], Callable[[], Any]]  # torch, module, size
    dtype: str


@dataclass(frozen=True)
class Subject:
    """One model of the catalogue."""

    name: str
    steps: int
    passes: int
    model: Part
    decoder: Part
    sizes: Sequence[Size]


@dataclass(frozen=True)
class Measured:
    """One part at one size. `peak_gib` is above `weights_gib`; `tflop` and `seconds` are of one pass."""

    subject: str
    part: str
    dtype: str
    width: int
    height: int
    frames: int
    parameters_b: float
    weights_gib: float
    tflop: float
    seconds: float
    peak_gib: float

    @property
    def tflop_per_s(self) -> float:
        return self.tflop / self.seconds


# -- the models --------------------------------------------------------------------------------------------------------


def flux(_torch: Any, diffusers: Any) -> Any:
    """FLUX.1's transformer: the class's own defaults; Schnell is not told the guidance."""
    return diffusers.FluxTransformer2DModel(guidance_embeds=False)


def _flux_pass(torch: Any, model: Any, size: Size) -> Callable[[], Any]:
    patches = (size.width // 16) * (size.height // 16)
    given = {
        "hidden_states": torch.randn(1, patches, 64),
        "encoder_hidden_states": torch.randn(1, 512, 4096),
        "pooled_projections": torch.randn(1, 768),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(patches, 3),
        "txt_ids": torch.zeros(512, 3),
    }
    return lambda: model(**given)


def autoencoder(channels: int, **more: Any) -> Callable[[Any, Any], Any]:
    """SDXL's and FLUX's differ in the channels of a latent."""

    def build(_torch: Any, diffusers: Any) -> Any:
        return diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            **more,
        )

    return build


def _decode(channels: int) -> Callable[[Any, Any, Size], Callable[[], Any]]:
    def call(torch: Any, vae: Any, size: Size) -> Callable[[], Any]:
        latents = torch.randn(1, channels, size.height // 8, size.width // 8)
        return lambda: vae.decode(latents)

    return call


def sdxl(diffusers: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def _sdxl_alone(_torch: Any, diffusers: Any) -> Any:
    return sdxl(diffusers)


def _sdxl_with_net(torch: Any, diffusers: Any) -> Any:
    """SDXL and InstantID's IdentityNet, which is a ControlNet of the same blocks."""
    unet = sdxl(diffusers)
    return torch.nn.ModuleDict({"unet": unet, "net": diffusers.ControlNetModel.from_unet(unet)})


def _sdxl_given(torch: Any, size: Size) -> dict[str, Any]:
    """Both halves of guidance in one batch."""
    return {
        "sample": torch.randn(2, 4, size.height // 8, size.width // 8),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(2, 77, 2048),
        "added_cond_kwargs": {"text_embeds": torch.randn(2, 1280), "time_ids": torch.zeros(2, 6)},
    }


def _sdxl_pass(torch: Any, model: Any, size: Size) -> Callable[[], Any]:
    given = _sdxl_given(torch, size)
    return lambda: model(**given)


def _instantid_pass(torch: Any, model: Any, size: Size) -> Callable[[], Any]:
    """The sixteen tokens of a face are attended to by the net instead of the words, which changes little."""
    given = _sdxl_given(torch, size)
    drawing = torch.zeros(2, 3, size.height, size.width)

    def run() -> Any:
        down, middle = model["net"](**given, controlnet_cond=drawing, return_dict=False)
        return model["unet"](**given, down_block_additional_residuals=down, mid_block_additional_residual=middle)

    return run


def _wan(**larger: int) -> Callable[[Any, Any], Any]:
    """Wan 2.1's transformer; the class's defaults are those of 14B."""
    return lambda _torch, diffusers: diffusers.WanTransformer3DModel(**larger)


def _wan_latents(torch: Any, size: Size) -> Any:
    return torch.randn(1, 16, (size.frames - 1) // 4 + 1, size.height // 8, size.width // 8)


def _wan_pass(torch: Any, model: Any, size: Size) -> Callable[[], Any]:
    latents = _wan_latents(torch, size)
    words = torch.randn(1, 512, 4096)
    instant = torch.tensor([500])
    return lambda: model(hidden_states=latents, timestep=instant, encoder_hidden_states=words)


def _wan_autoencoder(_torch: Any, diffusers: Any) -> Any:
    return diffusers.AutoencoderKLWan()


def _wan_decode(torch: Any, vae: Any, size: Size) -> Callable[[], Any]:
    latents = _wan_latents(torch, size)
    return lambda: vae.decode(latents)


SQUARES: Final = [Size(side, side) for side in (512, 768, 1024, 1440, 2048)]
CLIPS: Final = [Size(832, 480, frames) for frames in (17, 41, 81)] + [Size(1280, 720, 81)]
SDXL_DECODER: Final = Part(autoencoder(4), _decode(4), "float32")
SUBJECTS: Final = [
    Subject("flux", 4, 1, Part(flux, _flux_pass, "bfloat16"), Part(autoencoder(16), _decode(16), "bfloat16"), SQUARES),
    Subject("sdxl-lora", 30, 1, Part(_sdxl_alone, _sdxl_pass, "float16"), SDXL_DECODER, SQUARES),
    Subject("instantid", 30, 1, Part(_sdxl_with_net, _instantid_pass, "float16"), SDXL_DECODER, SQUARES),
    Subject(
        "wan2.1-1.3b",
        50,
        2,
        Part(_wan(num_attention_heads=12, ffn_dim=8960, num_layers=30), _wan_pass, "bfloat16"),
        Part(_wan_autoencoder, _wan_decode, "float32"),
        CLIPS,
    ),
    Subject(
        "wan2.1-14b", 50, 2, Part(_wan(), _wan_pass, "bfloat16"), Part(_wan_autoencoder, _wan_decode, "bfloat16"), CLIPS
    ),
]


# -- measuring ---------------------------------------------------------------------------------------------------------


@contextmanager
def on_the_gpu(torch: Any, dtype: str) -> Iterator[None]:
    """Whatever is made within is made there, in this precision."""
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device("cuda"), torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        gc.collect()
        torch.cuda.empty_cache()


def measure(torch: Any, diffusers: Any, subject: Subject, name: str, part: Part) -> Iterator[Measured]:
    """One part at each size that it has the memory for."""
    with on_the_gpu(torch, part.dtype):
        module = part.build(torch, diffusers).eval()
        parameters = sum(each.numel() for each in module.parameters())
        weights = torch.cuda.memory_allocated()
        for size in subject.sizes:
            try:
                run = part.call(torch, module, size)
                tflop = _tflop(torch, run)
                torch.cuda.reset_peak_memory_stats()
                seconds = _seconds(torch, run)
                peak = torch.cuda.max_memory_allocated() - weights
            except torch.cuda.OutOfMemoryError:
                return
            yield Measured(
                subject.name,
                name,
                part.dtype,
                size.width,
                size.height,
                size.frames,
                round(parameters / 1e9, 3),
                round(weights / GIB, 2),
                round(tflop, 2),
                round(seconds, 4),
                round(peak / GIB, 2),
            )


def _tflop(torch: Any, run: Callable[[], Any]) -> float:
    """Of one pass: matrix products, convolutions and attention, two for a multiplication and its addition."""
    counter: Any = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with counter:
        run()
    return float(counter.get_total_flops()) / TERA


def _seconds(torch: Any, run: Callable[[], Any]) -> float:
    """The median of a few passes after one that warms up."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    while len(times) < TIMED and (not times or times[0] < LONG_S):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def item_seconds(subject: Subject, model: Measured, decoder: Measured) -> float:
    """One picture or clip at the model's own number of steps."""
    return subject.steps * subject.passes * model.seconds + decoder.seconds


def table(found: Sequence[Measured]) -> Iterator[str]:
    yield "model        part     size               TFLOP    seconds  TFLOP/s  peak GiB  weights GiB"
    for one in found:
        size = f"{one.width}x{one.height}" + (f"x{one.frames}" if one.frames > 1 else "")
        yield (
            f"{one.subject:<12} {one.part:<8} {size:<14} {one.tflop:>9.2f} {one.seconds:>10.4f} {one.tflop_per_s:>8.0f}"
            f" {one.peak_gib:>9.2f} {one.weights_gib:>12.2f}"
        )


def items(found: Sequence[Measured]) -> Iterator[str]:
    """Each whole item for which both parts were measured."""
    parts = {(one.subject, one.part, one.width, one.height, one.frames): one for one in found}
    for subject in SUBJECTS:
        for size in subject.sizes:
            at = (size.width, size.height, size.frames)
            model, decoder = parts.get((subject.name, "model", *at)), parts.get((subject.name, "decoder", *at))
            if model is not None and decoder is not None:
                seconds = item_seconds(subject, model, decoder)
                peak = max(model.peak_gib, decoder.peak_gib)
                shape = "x".join(map(str, at))
                yield f"{subject.name} {shape}: {seconds:.2f} s an item, {peak:.2f} GiB beside the weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=[subject.name for subject in SUBJECTS])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch: Any = importlib.import_module("torch")
    diffusers: Any = importlib.import_module("diffusers")
    gpu = torch.cuda.get_device_properties(0)
    print(f"{gpu.name}, {gpu.total_memory / GIB:.1f} GiB; torch {torch.__version__}, diffusers {diffusers.__version__}")
    found: list[Measured] = []
    for subject in SUBJECTS:
        if given.only and subject.name not in given.only:
            continue
        for name, part in (("model", subject.model), ("decoder", subject.decoder)):
            found += measure(torch, diffusers, subject, name, part)
    for line in (*table(found), *items(found)):
        print(line)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
