"""What a row says that the command of its engine would not make true, so that memory, time and price are of another
pool than the one that would be deployed. A server of one's own may well keep it: this is about what is deployed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pools.catalog.worker_args import WORKERS_ALONE, worker_streams
from pools.spec import ModelKind, PoolSpec

_WORDS: Final = frozenset({ModelKind.TEXT, ModelKind.VISION})
_WHOLE: Final = frozenset({"bf16", "fp16"})
_OFF_THE_GPU: Final = {
    "vllm": frozenset({"cpu-offload-gb", "offload-backend", "offload-group-size"}),
    "vllm-omni": frozenset(
        {
            "enable-cpu-offload", "enable-layerwise-offload", "enable-distributed-layerwise-offload",
            "diffusion-offload-config",
        }
    ),
}  # fmt: skip
"""Arguments by which weights stay in the host's memory."""

_FORMATS: Final = frozenset({"diffusion-quantization-config", "diffusion-load-format"})
_GPUS: Final = frozenset({"hsdp-shard-size", "use-hsdp", "usp", "ulysses-degree", "ring", "ring-degree", "num-gpus"})
"""Arguments of vllm-omni by which it reads another format, and uses several GPUs."""


def not_kept(pool: PoolSpec) -> Iterator[str]:
    """One sentence each, with what to do."""
    yield from _medium(pool)
    given = pool.engine_args.keys()
    media = pool.model.kind not in _WORDS
    if media and pool.gpu_count > 1 and not (pool.engine == "vllm-omni" and given & _GPUS):
        more = "" if pool.engine != "vllm-omni" else ", or say by engine_args how it is split"
        yield f"{pool.engine} is started on one GPU, this pool counts with {pool.gpu_count}; set gpu_count: 1{more}"
    if pool.weights_off_gpu_gib and not (worker_streams(pool) or given & _OFF_THE_GPU.get(pool.engine, frozenset())):
        arguments = " or ".join(sorted(_OFF_THE_GPU.get(pool.engine, ())))
        more = f", or give it {arguments} under engine_args" if arguments else ""
        yield f"weights_off_gpu_gib: {pool.engine} is started with all weights on the GPU; take it out{more}"


def _medium(pool: PoolSpec) -> Iterator[str]:
    media, name = pool.model.kind not in _WORDS, pool.model.id
    if pool.engine == "vllm" and media:
        yield f"vllm makes no {pool.model.kind}s; set engine: vllm-omni, or diffusers"
    if pool.engine != "vllm-omni":
        return
    if not media:
        yield f"vllm-omni is started for pictures and clips here, {name} answers in text; set engine: vllm"
    elif name in WORKERS_ALONE:
        yield f"vllm-omni has no {name}; set engine: {WORKERS_ALONE[name]}"
    elif _other_format(pool):
        yield (
            f"vllm-omni would load {name} in 16 bits, not as {pool.quantization}; set quantization: bf16, engine: "
            "diffusers, or diffusion-quantization-config under engine_args"
        )


def _other_format(pool: PoolSpec) -> bool:
    """Whether vllm-omni is to read a format that it is not told of, and that no repository of its own is in."""
    own = pool.quantization in pool.model.repos and not pool.quantization.startswith("gguf")
    return pool.quantization not in _WHOLE and not own and not pool.engine_args.keys() & _FORMATS
