"""Whole pictures through the worker's own code on a GPU: what InstantID and FLUX hold, take at most, and how long.

    PYTHONPATH=. python benchmarks/diffusion_pipelines.py

Needs what diffusion_on_a_gpu.py needs, and transformers. Pipelines have the published sizes and random weights; they
are handed to `pools.modal.worker` as if they had been loaded. Where a card is named, no more memory is allowed than it
has, as catalogued. The first picture of each pipeline is not counted.
"""

from __future__ import annotations

import gc
import importlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

from diffusion_on_a_gpu import GIB, autoencoder, flux, sdxl
from pools.modal.worker import pictures
from pools.modal.worker.faces import Face
from pools.modal.worker.instantid import FaceTokens, InstantId

A10_GIB: Final = 22.1
FACE: Final = Face([0.1] * 512, [(20, 20), (44, 20), (32, 32), (24, 44), (40, 44)], 100.0)
TEXTS: Final = {
    "l": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
    "g": {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32},
}
T5: Final = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128}
Draw = Callable[[pictures.Picture], Any]


def tokenizer(transformers: Any) -> Any:
    """Letters, and nothing longer: what words mean takes no time."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<pad>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def clip(transformers: Any, size: str, kind: str) -> Any:
    sizes = TEXTS[size]
    special = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "vocab_size": 49408}
    config = transformers.CLIPTextConfig(projection_dim=sizes["hidden_size"], **sizes, **special)
    return getattr(transformers, kind)(config)


@contextmanager
def made_there(torch: Any, dtype: Any) -> Iterator[None]:
    """Weights are made on the GPU, which is soonest, in this precision."""
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def instantid(torch: Any, dtype: Any, in_pieces: bool) -> Draw:
    """SDXL, IdentityNet and adapter, put together as the worker does."""
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")
    with made_there(torch, dtype):
        unet = sdxl(diffusers)
        net = diffusers.ControlNetModel.from_unet(unet).to(dtype)
        parts = {
            "vae": autoencoder(4)(torch, diffusers),
            "text_encoder": clip(transformers, "l", "CLIPTextModel"),
            "text_encoder_2": clip(transformers, "g", "CLIPTextModelWithProjection"),
        }
    words = tokenizer(transformers)
    pipeline = diffusers.StableDiffusionXLControlNetPipeline(
        **parts,
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        controlnet=net,
        scheduler=diffusers.EulerDiscreteScheduler(),
    )
    adapter = {"image_proj": resampler(torch), "ip_adapter": keys_and_values(torch, unet)}
    pipeline.load_ip_adapter(adapter, subfolder="", weight_name="", image_encoder_folder=None)
    if in_pieces:
        pictures.decode_in_pieces(pipeline)
    tokens = FaceTokens()
    net.register_forward_pre_hook(tokens, with_kwargs=True)
    pipeline.set_progress_bar_config(disable=True)
    model = InstantId(pipeline.to("cuda", dtype), tokens)
    return lambda asked: model.make(FACE, (64, 64), asked, seeded(torch), lambda: False)


def resampler(torch: Any) -> dict[str, Any]:
    """The adapter's, in InstantID's layout: four layers of 1,280, sixteen tokens."""
    wide = 1280
    shapes = {"latents": (1, 16, wide), "proj_in.weight": (wide, 512), "proj_in.bias": (wide,)}
    shapes |= {"proj_out.weight": (2048, wide), "proj_out.bias": (2048,)}
    shapes |= {"norm_out.weight": (2048,), "norm_out.bias": (2048,)}
    for layer in range(4):
        attends, thinks = f"layers.{layer}.0", f"layers.{layer}.1"
        for norm in (f"{attends}.norm1", f"{attends}.norm2", f"{thinks}.0"):
            shapes |= {f"{norm}.weight": (wide,), f"{norm}.bias": (wide,)}
        shapes |= {f"{attends}.to_q.weight": (wide, wide), f"{attends}.to_kv.weight": (2 * wide, wide)}
        shapes |= {f"{attends}.to_out.weight": (wide, wide)}
        shapes |= {f"{thinks}.1.weight": (4 * wide, wide), f"{thinks}.3.weight": (wide, 4 * wide)}
    return {name: 0.02 * torch.randn(*shape) for name, shape in shapes.items()}


def keys_and_values(torch: Any, unet: Any) -> dict[str, Any]:
    found, modules = {}, dict(unet.named_modules())
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            width = modules[name.removesuffix(".processor")].to_k.weight.shape[0]
            for part in ("to_k_ip", "to_v_ip"):
                found[f"{index}.{part}.weight"] = 0.02 * torch.randn(width, 2048)
    return found


def flux_pipeline(torch: Any) -> Any:
    """FLUX.1 with T5 and CLIP in bfloat16, in the host's memory, where loading would leave it."""
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")
    scales = {"scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False}
    with made_there(torch, torch.bfloat16):
        config = transformers.T5Config(feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False, **T5)
        parts = {
            "transformer": flux(torch, diffusers),
            "vae": autoencoder(16, **scales)(torch, diffusers),
            "text_encoder": clip(transformers, "l", "CLIPTextModel"),
            "text_encoder_2": transformers.T5EncoderModel(config),
        }
    words = tokenizer(transformers)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    pipeline = diffusers.FluxPipeline(scheduler=scheduler, tokenizer=words, tokenizer_2=words, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device="cpu", dtype=torch.bfloat16)


def flux_worker(torch: Any, weights: str, offload: bool) -> Draw:
    """As `load_pictures` makes it of a repository."""
    diffusers: Any = importlib.import_module("diffusers")
    made = flux_pipeline(torch)
    with mock.patch.object(diffusers.AutoPipelineForText2Image, "from_pretrained", return_value=made):
        pipeline = pictures.load_pictures("flux", "flux", weights, None, offload, "cuda")
    return lambda asked: pipeline(**asked.options(seeded(torch), lambda: False))


def flux_moved(torch: Any) -> Draw:
    """FP8 with diffusers' offload of whole parts, which the worker does without."""
    hooks: Any = importlib.import_module("diffusers.hooks")
    pipeline = flux_pipeline(torch)
    hooks.apply_layerwise_casting(
        pipeline.transformer, torch.float8_e4m3fn, torch.bfloat16, skip_modules_pattern=pictures.KEPT_WIDE
    )
    pipeline.enable_model_cpu_offload()
    return lambda asked: pipeline(**asked.options(seeded(torch), lambda: False))


def seeded(torch: Any) -> pictures.Seeded:
    return lambda seed: torch.Generator("cuda").manual_seed(seed)


def show(
    torch: Any, what: str, make: Callable[[], Draw], steps: int, *asked: tuple[int, int], card_gib: float = 0
) -> None:
    """One line for each (pictures, pixels a side)."""
    gc.collect()
    torch.cuda.empty_cache()
    draw = make()
    gc.collect()
    torch.cuda.empty_cache()
    whole_gib = torch.cuda.get_device_properties(0).total_memory / GIB
    torch.cuda.set_per_process_memory_fraction(min(1.0, (card_gib or whole_gib) / whole_gib))
    draw(pictures.Picture("a b", 1, 512, 512, steps, 1))
    held_gib = torch.cuda.memory_allocated() / GIB
    for count, side in asked:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        began = time.perf_counter()
        draw(pictures.Picture("a b", count, side, side, steps, 1))
        torch.cuda.synchronize()
        seconds, peak_gib = time.perf_counter() - began, torch.cuda.max_memory_allocated() / GIB
        beside = f"{held_gib:6.2f} held {peak_gib - held_gib:6.2f} beside {peak_gib:6.2f} GiB in all"
        print(f"{what:<36} {count} of {side:>4}: {seconds:6.2f} s {beside}", flush=True)
    torch.cuda.set_per_process_memory_fraction(1.0)


def main() -> None:
    torch: Any = importlib.import_module("torch")
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        for pieces in (False, True):
            what = f"InstantID {name}{' in pieces' if pieces else ''}"
            show(torch, what, partial(instantid, torch, dtype, pieces), 30, (1, 1024), (4, 1024), (1, 2048))
    show(torch, "FLUX bfloat16", partial(flux_worker, torch, "bf16", False), 4, (1, 1024))
    streamed = "FLUX FP8, T5 streamed, as on an A10"
    show(torch, streamed, partial(flux_worker, torch, "fp8", True), 4, (1, 1024), (4, 1024), card_gib=A10_GIB)
    show(torch, "FLUX FP8, parts moved", partial(flux_moved, torch), 4, (1, 1024))


if __name__ == "__main__":
    main()
