"""Does a pool's model fit its GPUs, and how many KV tokens are left. Arithmetic from the catalogue.

    budget   = GPUs × usable memory × gpu_memory_utilization
    left     = budget - weights - overhead          (overhead 1.5 GiB on one GPU, 2.0 per GPU from two up)
    KV/token = 2 × attention layers × KV heads × head dim × 2 bytes (1 where engine_args say kv-cache-dtype: fp8)

Take results as ±1 GiB or ±2%: the overhead stands for CUDA context, activations and CUDA graphs, which depend on the
engine's settings. Only layers with full attention keep KV; linear-attention layers hold a fixed state per sequence.
KV heads are replicated where tensor parallelism exceeds them, weights where data parallelism repeats them. The formula
gives the 62.00 GiB that vLLM itself asks for at 262,144 tokens of Qwen3-Coder-480B.

That is what an engine with a paged cache holds. One that keeps a batch's cache in one piece (`kv_cache: contiguous`)
holds `CONTIGUOUS_SHARE` of it. A row's own `kv_tokens`, which engines log at start, counts before any arithmetic.

Media models keep no KV: weights and peak activations must fit, less what the row keeps in host memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pools.fit.compatibility import obstacles, remarks
from pools.spec import GpuSpec, KvCache, ModelSpec, PoolSpec

GIB = 2**30
"""Bytes in a GiB: weights and KV are counted in GiB."""

OVERHEAD_ONE_GPU_GIB = 1.5
OVERHEAD_PER_GPU_GIB = 2.0
KV_BYTES_PER_VALUE = 2
"""16-bit KV cache, vLLM's default at every weight format."""

KV_CACHE_DTYPE = "kv-cache-dtype"
KV_IN_ONE_BYTE = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2"})
"""The engine argument by which a row keeps its KV cache in another format, and those of one byte a value."""

CONTIGUOUS_SHARE = 0.3
"""Of the memory beside the weights, what a cache in one piece can use: it is copied whenever a batch grows, so that the
old and the new one stand side by side, and padded to its longest sequence. Five of seven engines fitted to LLM-Pilot's
measured failures (TGIS, `benchmarks/oom_admission.py`) held 0.37 to 0.71 of the arithmetic above; where they held less,
only `kv_tokens` or running out of memory tells."""

USUAL_UTILIZATION = 0.92
"""vLLM's own since 0.20, and what a row has that says nothing."""

GPU_COUNTS = (1, 2, 4, 8)
"""How many GPUs of one kind a remedy may propose."""


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The arithmetic of one pool, GiB over all its GPUs.

    `kv_tokens` is how many tokens of KV cache one container holds (0 for media models); `largest_max_model_len` the
    longest context at which one request still fits. When `loads` is False, `problem` states the arithmetic and
    `remedy` the placements that would do. `ranks` are data-parallel copies, each with its share of the KV cache;
    `notes` say what runs otherwise than its name suggests.
    """

    loads: bool
    weights_gib: float
    overhead_gib: float
    budget_gib: float  # usable memory × utilisation
    kv_gib: float
    kv_bytes_per_token: int
    kv_tokens: int
    largest_max_model_len: int
    state_mib_per_sequence: float = 0.0
    problem: str | None = None
    remedy: str | None = None
    activation_gib: float = 0.0
    ranks: int = 1
    notes: tuple[str, ...] = ()

    def concurrency_at(self, context_tokens: int) -> int:
        """How many requests of `context_tokens` one container holds at once."""
        per_request = context_tokens * self.kv_bytes_per_token + self.state_mib_per_sequence * 2**20
        return int(self.kv_gib / self.ranks * GIB // per_request) * self.ranks if per_request > 0 else 0


def fit(pool: PoolSpec, gpus: Mapping[str, GpuSpec]) -> MemoryFit:
    """The arithmetic of one pool; when it cannot load, with a remedy found among `gpus`."""
    result = _arithmetic(pool)
    reasons = [*obstacles(pool), *_shortages(pool, result)]
    notes = tuple(remarks(pool))
    if not reasons:
        return replace(result, loads=True, notes=notes)
    return replace(result, problem="; ".join(reasons), remedy=_remedy(pool, result, gpus), notes=notes)


def expert_share(model: ModelSpec) -> float:
    """Share of the parameters that sit in routed experts: three matrices of hidden × expert_intermediate each."""
    experts = model.expert_layers * model.experts * 3 * model.hidden * model.expert_intermediate
    return experts / (model.params_b * 1e9)


def loaded_weights_gib(pool: PoolSpec) -> float:
    """Weights over all GPUs: every data-parallel rank has a copy, but of experts only without expert parallelism."""
    weights = pool.model.weights_gib[pool.quantization] - pool.weights_off_gpu_gib
    ranks = max(1, pool.gpu_count // pool.tensor_parallel)
    if not pool.expert_parallel:
        return weights * ranks
    experts = weights * expert_share(pool.model)
    return experts + (weights - experts) * ranks


def kv_bytes_per_token(pool: PoolSpec) -> int:
    """KV cache of one token, over all GPUs of one data-parallel rank."""
    model = pool.model
    heads = max(model.kv_heads, pool.tensor_parallel) if model.kv_heads else 0
    width = 1 if pool.engine_args.get(KV_CACHE_DTYPE) in KV_IN_ONE_BYTE else KV_BYTES_PER_VALUE
    return 2 * model.attention_layers * heads * model.head_dim * width


def _arithmetic(pool: PoolSpec) -> MemoryFit:
    """The numbers, before anything is judged: `loads` is False and `problem` None."""
    model, count = pool.model, pool.gpu_count
    weights = loaded_weights_gib(pool)
    overhead = OVERHEAD_ONE_GPU_GIB if count == 1 else OVERHEAD_PER_GPU_GIB * count
    budget = count * pool.gpu.memory_gib * pool.gpu_memory_utilization
    left = max(0.0, budget - weights - overhead - pool.activation_gib)
    per_token = kv_bytes_per_token(pool)
    ranks = max(1, count // pool.tensor_parallel)
    kv_gib = _kv_gib(pool, left, per_token)
    state_bytes = model.state_mib_per_sequence * 2**20
    room = kv_gib / ranks * GIB - state_bytes
    longest = max(0, int(room // per_token)) if per_token else model.native_context * (room >= 0)
    return MemoryFit(
        loads=False,
        weights_gib=weights,
        overhead_gib=overhead,
        budget_gib=budget,
        kv_gib=kv_gib,
        kv_bytes_per_token=per_token,
        kv_tokens=int(kv_gib * GIB // per_token) if per_token else 0,
        largest_max_model_len=min(longest, model.native_context),
        state_mib_per_sequence=model.state_mib_per_sequence,
        activation_gib=pool.activation_gib,
        ranks=ranks,
    )


def _kv_gib(pool: PoolSpec, left_gib: float, per_token: int) -> float:
    """Memory of KV cache: what was measured, or what is left beside the weights, as far as the engine can use it."""
    if not per_token:
        return left_gib if pool.model.state_mib_per_sequence else 0.0
    if pool.kv_tokens is not None:
        return pool.kv_tokens * per_token / GIB
    return left_gib if pool.kv_cache is KvCache.PAGED else left_gib * CONTIGUOUS_SHARE


def _shortages(pool: PoolSpec, result: MemoryFit) -> Iterator[str]:
    """Where memory does not suffice: for the weights, or else for one request of `max_model_len`."""
    parts = [("weights", result.weights_gib), ("activations", result.activation_gib), ("overhead", result.overhead_gib)]
    needed = sum(amount for _, amount in parts)
    where = f"{pool.gpu_count}×{pool.gpu.id}"
    if needed > result.budget_gib:
        terms = " + ".join(f"{name} {amount:.1f} GiB" for name, amount in parts if amount)
        yield (
            f"{terms} > {result.budget_gib:.1f} GiB on {where} ({pool.gpu_count} × {pool.gpu.memory_gib:g} × "
            f"{pool.gpu_memory_utilization:g}), short by {needed - result.budget_gib:.1f} GiB"
        )
    elif pool.max_model_len > result.largest_max_model_len and pool.max_model_len <= pool.model.native_context:
        wanted = pool.max_model_len * result.kv_bytes_per_token / GIB + result.state_mib_per_sequence / 1024
        yield (
            f"max_model_len {pool.max_model_len} needs {wanted:.1f} GiB of KV, {result.kv_gib / result.ranks:.1f} GiB "
            f"left on {where}; the largest that fits is {result.largest_max_model_len}"
        )


def _loads(pool: PoolSpec) -> bool:
    return not any(obstacles(pool)) and not any(_shortages(pool, _arithmetic(pool)))


def _remedy(pool: PoolSpec, result: MemoryFit, gpus: Mapping[str, GpuSpec]) -> str | None:
    """What would load: a shorter context, more or other GPUs, another weight format on the same GPUs."""
    options: list[str] = []
    shorter = min(result.largest_max_model_len, pool.model.native_context)
    if 0 < shorter < pool.max_model_len and _loads(replace(pool, max_model_len=shorter)):
        options.append(f"lower max_model_len to {shorter} or less")
    if pool.gpu_memory_utilization < USUAL_UTILIZATION and _loads(
        replace(pool, gpu_memory_utilization=USUAL_UTILIZATION)
    ):
        options.append(f"raise gpu_memory_utilization to {USUAL_UTILIZATION:g}")
    if places := _placements(pool, gpus):
        options.append(_places_text(places, pool))
    formats = [name for name in pool.model.weights_gib if _loads(replace(pool, quantization=name))]
    if formats:
        options.append(f"on {pool.gpu_count}×{pool.gpu.id} it loads as {' or '.join(formats)}")
    return "; ".join(options) or None


def _places_text(places: list[PoolSpec], pool: PoolSpec) -> str:
    """`fits 8×H100 or 4×H200 (8×H100 with expert_parallel)`."""
    names = {f"{place.gpu_count}×{place.gpu.id}": place.expert_parallel for place in places}
    whole = [name for name, expert_parallel in names.items() if expert_parallel and not pool.expert_parallel]
    hint = f" ({' and '.join(whole)} with expert_parallel)" if whole else ""
    return f"fits {' or '.join(names)}{hint}"


def _placements(pool: PoolSpec, gpus: Mapping[str, GpuSpec]) -> list[PoolSpec]:
    """The fewest GPUs of its own kind that load it; and the fewest of another kind, the smallest kind that does."""
    own: PoolSpec | None = None
    others: list[PoolSpec] = []
    for gpu in gpus.values():
        found = next((place for place in _counts(pool, gpu) if _loads(place)), None)
        if found is not None and gpu.id == pool.gpu.id:
            own = found
        elif found is not None:
            others.append(found)
    smallest = min(others, key=lambda place: (place.gpu_count, place.gpu.memory_gib), default=None)
    return [place for place in (own, smallest) if place is not None]


def _counts(pool: PoolSpec, gpu: GpuSpec) -> Iterator[PoolSpec]:
    """The pool on 1, 2, 4, 8 of a GPU, by tensor parallelism, with experts whole where cutting them is not possible."""
    for count in GPU_COUNTS:
        if pool.model.q_heads == 0 and count > 1:
            return
        if gpu.id == pool.gpu.id and count <= pool.gpu_count:
            continue
        place = replace(pool, gpu=gpu, gpu_count=count, tensor_parallel=count)
        yield place
        if pool.model.experts and not pool.expert_parallel:
            yield replace(place, expert_parallel=True)
