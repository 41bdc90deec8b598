"""How fast a simulated container is: a roofline over the catalogue's rows, with figures of the simulator's own.

One engine step reads the weights once, and the KV cache of every running sequence once; it computes for every token
of the step. Whichever takes longer sets the step's time:

    step = max((dense + touched experts + KV) / bandwidth, FLOP / compute) + overhead

`touched experts = E·(1 − (1 − k/E)^tokens)`: under load a mixture of experts reads nearly all of its weights.
Efficiencies are the middle of what is commonly measured for vLLM (60-80% of bandwidth, 40-60% of compute, 2-8 ms of
CPU and communication a step). Each pool then differs from these figures by factors drawn once, lognormal around 1
with `SIGMA`: a router that predicts from the same catalogue is wrong by about as much as it would be in life.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pools.spec import ModelKind, PoolSpec
from pricing.errors import SluiceError

SIGMA = 0.15  # of the logarithm of each pool's factors
BANDWIDTH_EFFICIENCY = 0.70
COMPUTE_EFFICIENCY = 0.50
STEP_OVERHEAD_S = 0.004
STEP_OVERHEAD_PER_DOUBLING_S = 0.001  # all-reduce, for each doubling of the GPUs
LOAD_GB_PER_S = 1.5  # weights from a network volume
BOOT_WITHOUT_WEIGHTS_S = 41.0  # container 1 s, imports 20 s, compilation and CUDA graphs 20 s
OVERHEAD_GIB_ONE_GPU = 1.5
OVERHEAD_GIB_PER_GPU = 2.0  # from two GPUs up
GIB = 2**30
US_PER_S = 1_000_000


class CannotSimulate(SluiceError):
    """A pool that could not run in life either, or that does not speak the chat API."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one pool is from the base figures: factors on bandwidth, compute, overhead and boot time."""

    bandwidth: float = 1.0
    compute: float = 1.0
    overhead: float = 1.0
    boot: float = 1.0

    @staticmethod
    def draw(rng: random.Random, sigma: float = SIGMA) -> Deviation:
        return Deviation(*(rng.lognormvariate(0.0, sigma) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One container of a pool, as coefficients. Seconds, tokens."""

    dense_s: float  # reading all weights that every token needs
    experts_s: float  # reading all experts
    expert_untouched: float  # 1 − k/E: the share of experts that one token leaves alone
    kv_read_s: float  # reading one token's KV entry
    compute_s: float  # computing one token
    attention_s: float  # attention of one token over one token of context
    overhead_s: float
    kv_tokens: int  # KV cache of one container
    state_tokens: int  # fixed state of one sequence, in tokens of KV cache
    boot_s: float

    def step_us(self, decoding: int, kv_tokens: int, prefill_tokens: int, prefill_pairs: int) -> int:
        """Microseconds of one step, at least 1.

        `kv_tokens` is the KV cache that the decoding sequences read; `prefill_pairs` the sum over prefilled tokens
        of the context that each attends to.
        """
        tokens = decoding + prefill_tokens
        read = self.dense_s + kv_tokens * self.kv_read_s
        if self.experts_s:
            read += self.experts_s * (1.0 - self.expert_untouched**tokens)
        compute = tokens * self.compute_s + prefill_pairs * self.attention_s
        return max(1, round((max(read, compute) + self.overhead_s) * US_PER_S))


def speaks_chat(spec: PoolSpec) -> bool:
    """Whether a pool answers the chat API; the others make pictures or clips."""
    return spec.model.kind in (ModelKind.TEXT, ModelKind.VISION)


def profile_of(spec: PoolSpec, deviation: Deviation) -> EngineProfile:
    """The coefficients of one pool. Raises CannotSimulate for media models and for weights that leave no KV cache."""
    model, gpu = spec.model, spec.gpu
    if not speaks_chat(spec):
        raise CannotSimulate(f"pool '{spec.name}' makes {model.kind}s; it has no roofline of tokens")
    bandwidth = gpu.bandwidth_gb_s * 1e9 * spec.gpu_count * BANDWIDTH_EFFICIENCY * deviation.bandwidth
    tflops = gpu.fp8_tflops if spec.quantization == "fp8" and gpu.fp8_tflops else gpu.fp16_tflops
    compute = tflops * 1e12 * spec.gpu_count * COMPUTE_EFFICIENCY * deviation.compute
    overhead = STEP_OVERHEAD_S + STEP_OVERHEAD_PER_DOUBLING_S * (spec.gpu_count.bit_length() - 1)
    weights_gib = _weights_gib(spec)
    bytes_per_param = weights_gib * GIB / (model.params_b * 1e9)
    dense_b, expert_b = _dense_and_expert_params(spec)
    kv_bytes = _kv_bytes_per_token(spec)
    return EngineProfile(
        dense_s=dense_b * 1e9 * bytes_per_param / bandwidth,
        experts_s=expert_b * 1e9 * bytes_per_param / bandwidth,
        expert_untouched=1.0 - model.experts_active / model.experts if model.experts else 0.0,
        kv_read_s=kv_bytes / bandwidth,
        compute_s=2.0 * model.active_params_b * 1e9 / compute,
        attention_s=4.0 * model.attention_layers * model.q_heads * model.head_dim / compute,
        overhead_s=overhead * deviation.overhead,
        kv_tokens=_kv_tokens(spec, weights_gib, kv_bytes),
        state_tokens=-(-int(model.state_mib_per_sequence * 2**20) // kv_bytes),
        boot_s=boot_of(spec) * deviation.boot,
    )


def _weights_gib(spec: PoolSpec) -> float:
    try:
        return spec.model.weights_gib[spec.quantization] - spec.weights_off_gpu_gib
    except KeyError:
        known = ", ".join(sorted(spec.model.weights_gib))
        raise CannotSimulate(
            f"pool '{spec.name}': model '{spec.model.id}' has no weights as '{spec.quantization}'; known: {known}"
        ) from None


def _dense_and_expert_params(spec: PoolSpec) -> tuple[float, float]:
    """Parameters (1e9) that every token reads, and those of all experts: total = d + E·x, active = d + k·x."""
    model = spec.model
    if model.experts <= model.experts_active:
        return model.params_b, 0.0
    per_expert = (model.params_b - model.active_params_b) / (model.experts - model.experts_active)
    return model.params_b - model.experts * per_expert, model.experts * per_expert


def _kv_bytes_per_token(spec: PoolSpec) -> int:
    """Keys and values of 16 bits in every layer that keeps them."""
    model = spec.model
    return 2 * model.attention_layers * model.kv_heads * model.head_dim * 2


def _kv_tokens(spec: PoolSpec, weights_gib: float, kv_bytes: int) -> int:
    """What the weights leave. At least `max_model_len`: vLLM does not start with less."""
    overhead = OVERHEAD_GIB_ONE_GPU if spec.gpu_count == 1 else OVERHEAD_GIB_PER_GPU * spec.gpu_count
    budget_gib = spec.gpu.memory_gib * spec.gpu_memory_utilization * spec.gpu_count
    free_gib = budget_gib - weights_gib - overhead
    if free_gib <= 0:
        raise CannotSimulate(
            f"pool '{spec.name}' cannot load: weights {weights_gib:.1f} GiB + overhead {overhead:.1f} GiB"
            f" > {budget_gib:.1f} GiB; give it more or larger GPUs"
        )
    return max(spec.max_model_len, int(free_gib * GIB) // kv_bytes)


def boot_of(spec: PoolSpec) -> float:
    """Seconds of a boot: the row's own, or software and weights. Raises CannotSimulate."""
    if spec.boot_s is not None:
        return spec.boot_s
    return BOOT_WITHOUT_WEIGHTS_S + _weights_gib(spec) * GIB / 1e9 / LOAD_GB_PER_S
