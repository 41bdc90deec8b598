"""Can this engine run these weights, split like this, on this GPU? Everything about a pool but its memory.

Sources: vLLM's own capability checks per release, its CMake build list and its recipes, read for 0.9.2 to 0.32.0. Each
reason is one sentence that names the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator

from pools.spec import GpuSpec, PoolSpec

FP8_NATIVE = 89
"""Compute capability from which GPUs calculate in FP8 (Ada, Hopper, Blackwell)."""

MARLIN_ON_TURING = (0, 14)
"""First vLLM whose Marlin kernels (AWQ, GPTQ, weight-only FP8) run on compute capability 7.5."""

GGUF_LEFT_VLLM = (0, 24)
"""First vLLM without GGUF in its tree."""


def version(text: str) -> tuple[int, ...]:
    """`0.14.1` as (0, 14, 1); the first part that is not a number ends it."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def obstacles(pool: PoolSpec) -> Iterator[str]:
    """Every reason but memory why this pool's engine would not start."""
    yield from _format(pool)
    yield from _engine(pool)
    yield from _parallelism(pool)
    yield from _context(pool)


def remarks(pool: PoolSpec) -> Iterator[str]:
    """What runs, but otherwise than its name suggests."""
    gpu = pool.gpu
    if pool.quantization == "fp8" and gpu.compute_capability < FP8_NATIVE:
        yield (
            f"FP8 is weight-only on {gpu.id} ({_capability(gpu)}): half the memory of 16 bits, and 16-bit arithmetic"
        )


def _format(pool: PoolSpec) -> Iterator[str]:
    gpu, name = pool.gpu, pool.quantization
    if name == "bf16" and not gpu.bf16:
        yield f"bf16 needs compute capability 8.0, {gpu.id} has {_capability(gpu)}; use fp16 or a quantized format"
    if pool.engine != "vllm":
        return
    release = version(pool.engine_version)
    if name == "fp8" and gpu.compute_capability < 80 and release < MARLIN_ON_TURING:
        yield f"FP8 weights on {gpu.id} need vLLM 0.14, this pool runs {pool.engine_version}; raise engine_version"
    if name.startswith("gguf") and release >= GGUF_LEFT_VLLM:
        yield f"vLLM {pool.engine_version} no longer reads GGUF in its tree; use awq or fp8"


def _engine(pool: PoolSpec) -> Iterator[str]:
    since = pool.model.vllm_since
    if pool.engine == "vllm" and since and version(pool.engine_version) < version(since):
        yield f"{pool.model.id} needs vLLM {since}, this pool runs {pool.engine_version}; raise engine_version"


def _parallelism(pool: PoolSpec) -> Iterator[str]:
    model, gpu, tensor = pool.model, pool.gpu, pool.tensor_parallel
    if pool.gpu_count > gpu.max_per_container:
        yield f"one container has at most {gpu.max_per_container}×{gpu.id}, this pool asks for {pool.gpu_count}"
    if pool.gpu_count % tensor:
        yield f"tensor_parallel {tensor} does not divide gpu_count {pool.gpu_count}"
    if model.q_heads % tensor:
        yield f"tensor_parallel {tensor} does not divide the {model.q_heads} attention heads of {model.id}"
    if model.kv_heads and model.kv_heads % tensor and tensor % model.kv_heads:
        yield f"tensor_parallel {tensor} and the {model.kv_heads} KV heads of {model.id} do not divide one another"
    if pool.expert_parallel and not model.experts:
        yield f"expert_parallel needs a mixture of experts, {model.id} has none; take it out"
    blocks = fp8_blocks(pool)
    if blocks and blocks % tensor:
        largest = max(size for size in range(1, tensor) if blocks % size == 0 and model.q_heads % size == 0)
        yield (
            f"tensor_parallel {tensor} does not divide the {blocks} FP8 blocks of an expert "
            f"({model.expert_intermediate} / {model.fp8_block}); use tensor_parallel {largest} or expert_parallel"
        )


def fp8_blocks(pool: PoolSpec) -> int:
    """FP8 blocks across which one expert would be cut by tensor parallelism; 0 where nothing is cut."""
    model = pool.model
    if pool.quantization != "fp8" or pool.expert_parallel or not model.fp8_block:
        return 0
    return model.expert_intermediate // model.fp8_block


def _context(pool: PoolSpec) -> Iterator[str]:
    native = pool.model.native_context
    if pool.max_model_len > native > 0:
        yield f"max_model_len {pool.max_model_len} is above the {native} tokens of {pool.model.id}; lower it"


def _capability(gpu: GpuSpec) -> str:
    return f"{gpu.compute_capability // 10}.{gpu.compute_capability % 10}"
