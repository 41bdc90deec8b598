"""How long a pool takes: first token, each token, and a boot. A roofline by GPU, batch and context.

One decode step of B requests reads the weights once and every request's KV cache, and computes 2 FLOP per active
parameter and request; whichever takes longer sets its time. A prefill of n tokens computes, and reads all weights once.

    step    = max(weights touched by B + B × (context × KV bytes + 2 × state) at 0.8 of the bandwidth,
                  2 × active parameters × B at 0.5 of the TFLOP/s, 0.2 with experts)
              + 2.5 ms + B × 25 µs + 25 µs a layer from two GPUs up + 60 µs a layer with experts
    prefill = max(2 × active parameters × n + 2 × attention layers × q heads × head dim × n² at the same
                  + two all-reduces a layer over the link, one reading of all weights)

Of a mixture of experts, a step touches the experts that B requests choose, E × (1 - (1 - k/E)^B), at 0.7 of the
bandwidth. FP8 weights on a GPU without FP8 arithmetic are read at half the size and computed in 16 bits.

Beside `running` others like it, a request sees each of them replaced once during its life, so it sits through one
prefill for each; and it finds some of those prefills ahead of it in the queue, as many as a queue of that utilization
has on average: running × prefill × utilization / 4. Each request also pays 20 ms of HTTP, tokenizing and scheduling.

The constants are fitted to published measurements; `benchmarks/timing_model.py` prints how far off the model is, and
docs/catalogue.md keeps that table. Media models take `seconds_per_item` for each image or clip, scaled by pixels ×
steps × frames (`pools/media.py`), one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from pools.fit.memory import GIB, expert_share, kv_bytes_per_token, loaded_weights_gib
from pools.media import MediaAsked, work
from pools.spec import ONE_PICTURE, MediaSize, PoolSpec

MEMORY_EFFICIENCY = 0.8
"""Share of the datasheet's bandwidth that decode kernels reach."""

EXPERTS_EFFICIENCY = 0.7
"""The same for routed experts, whose tiles are small."""

COMPUTE_EFFICIENCY = 0.5
"""Share of dense TFLOP/s reached by decode and prefill."""

EXPERTS_COMPUTE_EFFICIENCY = 0.2
"""The same for mixtures of experts, whose prefill runs many small, padded products."""

LINK_EFFICIENCY = 0.67
"""Share of the link's bandwidth that all-reduces reach."""

STEP_OVERHEAD_S = 2.5e-3
"""Scheduler, kernel launches and host work, per step."""

REQUEST_OVERHEAD_S = 20e-3
"""HTTP, tokenizing and the first scheduling, once per request."""

SEQUENCE_OVERHEAD_S = 25e-6
"""Sampling, detokenizing and streaming, per request and step."""

ALL_REDUCE_S = 25e-6
"""Latency of two all-reduces, per layer and step, from two GPUs up."""

EXPERTS_LAYER_S = 60e-6
"""Routing, permuting and grouped kernels, per layer and step of a mixture of experts."""

QUEUE_FACTOR = 0.25
"""Prefills ahead in the queue, as a share of running × utilization: 1/2 for random arrivals (M/D/1), near 0 for
perfectly even ones; this fits measured servers with a fixed number of clients."""

TTFT_P95_FACTOR = 2.0
"""95th percentile of the first-token time over its expectation: the median of p95/p50 in LLM-Pilot's 382 measured
cases is 1.6 to 2.2 at every number of users from 1 to 128."""

BATCH_MAX = 256
"""vLLM's default `max_num_seqs`: larger batches queue and are counted as this one."""


class ServiceTime(msgspec.Struct, frozen=True, gc=False):
    """Expected seconds of one request: to its first token, to its last, and the first token's 95th percentile."""

    ttft_s: float
    total_s: float
    ttft_p95_s: float


@dataclass(frozen=True, slots=True)
class TimingModel:
    """One pool's coefficients in seconds, computed once at load so that an estimate is a few multiplications.

    `weights_s[b]` is the reading of what a step of b requests touches, `overhead_s[b]` its overhead; the other names
    say what one unit costs. `item_s` is set for media models, and only then used.
    """

    weights_s: tuple[float, ...]
    overhead_s: tuple[float, ...]
    kv_token_s: float
    state_s: float
    sequence_flops_s: float
    prefill_floor_s: float
    prefill_token_s: float
    prefill_token2_s: float
    item_s: float | None = None
    once_s: float = 0.0  # of `item_s`, once a request whatever its size
    item: MediaSize = ONE_PICTURE

    def estimate(self, prompt_tokens: int, output_tokens: int, running: int, items: int = 1) -> ServiceTime:
        """Time of one request that joins `running` others like it in one container.

        The total never falls when an argument grows; the first token's time never when the prompt or `running` does
        (with longer answers, fewer of the others are in their prefill). `items` counts images or clips and matters
        to media models only, which work through their queue one by one.
        """
        if self.item_s is not None:
            total_s = self.item_s * (items + running)
            return ServiceTime(total_s, total_s, total_s * TTFT_P95_FACTOR)
        batch = running + 1 if running < BATCH_MAX else BATCH_MAX
        prefill_s = prompt_tokens * (self.prefill_token_s + prompt_tokens * self.prefill_token2_s)
        if prefill_s < self.prefill_floor_s:
            prefill_s = self.prefill_floor_s
        context = prompt_tokens + output_tokens * 0.5
        overhead_s = self.overhead_s[batch]
        weights_s = self.weights_s[batch]
        step_s = weights_s + batch * (context * self.kv_token_s + self.state_s)
        if step_s < batch * self.sequence_flops_s:
            step_s = batch * self.sequence_flops_s
        step_s += overhead_s
        others_s = running * prefill_s
        alone_s = REQUEST_OVERHEAD_S + prefill_s + step_s
        # Utilization by prefills, on steps without their KV: a longer prompt must not shorten the queue.
        utilization = others_s / (prefill_s + others_s + (output_tokens + 1) * (weights_s + overhead_s))
        queue_s = QUEUE_FACTOR * others_s * utilization
        serving_s = alone_s + output_tokens * step_s + others_s
        ttft_s = alone_s + queue_s
        return ServiceTime(ttft_s, serving_s + queue_s, ttft_s * TTFT_P95_FACTOR)

    def estimate_media(self, asked: MediaAsked, running: int) -> ServiceTime:
        """Time of a request for pictures or clips, behind `running` others of one item at the model's own size.

        First token and last are one moment: nothing is there before all is.
        """
        item_s = self.item_s or 0.0
        total_s = self.once_s + (item_s - self.once_s) * work(asked, self.item) + item_s * running
        return ServiceTime(total_s, total_s, total_s * TTFT_P95_FACTOR)

    def cache_saves_s(self, prompt_tokens: int, cached_tokens: int) -> float:
        """Prefill that the prompt's first tokens do not take where the engine's prefix cache has them, alone.

        The others still attend to them, so what is saved is the prefill of the cached part by itself; a prefill never
        takes less than one reading of all weights. `cached_tokens` is 0 to `prompt_tokens`.
        """
        if self.item_s is not None:
            return 0.0
        prefill_s = prompt_tokens * (self.prefill_token_s + prompt_tokens * self.prefill_token2_s)
        cached_s = cached_tokens * (self.prefill_token_s + cached_tokens * self.prefill_token2_s)
        return max(prefill_s, self.prefill_floor_s) - max(prefill_s - cached_s, self.prefill_floor_s)


@dataclass(frozen=True, slots=True)
class StatedTiming:
    """What a row states of a service whose machines are not known: no request of ours makes it slower."""

    first_token_s: float
    tokens_per_s: float

    def estimate(self, prompt_tokens: int, output_tokens: int, running: int, items: int = 1) -> ServiceTime:
        """As `TimingModel.estimate`; `running` and `items` change nothing."""
        total_s = self.first_token_s + output_tokens / self.tokens_per_s
        return ServiceTime(self.first_token_s, total_s, self.first_token_s * TTFT_P95_FACTOR)

    def estimate_media(self, asked: MediaAsked, running: int) -> ServiceTime:
        """Pictures and clips are not sold by the token; a class that makes them lists no such pool."""
        return self.estimate(0, 0, running)

    def cache_saves_s(self, prompt_tokens: int, cached_tokens: int) -> float:
        """Nothing that is known of; what a provider's cache saves is money (`policies.choose.price_tokens`)."""
        return 0.0


Timing = TimingModel | StatedTiming


def timing_of(pool: PoolSpec) -> Timing:
    """How long requests take on a pool: by the roofline of its GPUs, or as its row states."""
    if pool.terms is not None:
        return StatedTiming(pool.terms.first_token_s, pool.terms.tokens_per_s)
    return timing_model(pool)


def timing_model(pool: PoolSpec) -> TimingModel:
    """The coefficients of one pool. Raises KeyError for a media model without `seconds_per_item` on the pool's GPU."""
    model, gpu, count = pool.model, pool.gpu, pool.gpu_count
    bytes_per_s = count * gpu.bandwidth_gb_s * 1e9 * MEMORY_EFFICIENCY
    efficiency = EXPERTS_COMPUTE_EFFICIENCY if model.experts else COMPUTE_EFFICIENCY
    flops_per_s = count * _tflops(pool) * 1e12 * efficiency
    weights_s = tuple(_reading_s(pool, batch, bytes_per_s) for batch in range(BATCH_MAX + 1))
    overhead_s = STEP_OVERHEAD_S + (ALL_REDUCE_S * model.layers if count > 1 else 0.0)
    overhead_s += EXPERTS_LAYER_S * model.expert_layers if model.experts else 0.0
    token_s = 2 * model.active_params_b * 1e9 / flops_per_s
    timing = TimingModel(
        weights_s=weights_s,
        overhead_s=tuple(overhead_s + SEQUENCE_OVERHEAD_S * batch for batch in range(BATCH_MAX + 1)),
        kv_token_s=kv_bytes_per_token(pool) / bytes_per_s,
        state_s=2 * model.state_mib_per_sequence * 2**20 / bytes_per_s,
        sequence_flops_s=token_s,
        prefill_floor_s=weights_s[BATCH_MAX],
        prefill_token_s=token_s + _all_reduce_token_s(pool),
        prefill_token2_s=2 * model.attention_layers * model.q_heads * model.head_dim / flops_per_s,
        item_s=model.seconds_per_item[gpu.id] if model.seconds_per_item is not None else None,
        once_s=model.seconds_once.get(gpu.id, 0.0),
        item=model.item,
    )
    return timing if pool.time_factor == 1.0 else _scaled(timing, pool.time_factor)


def _scaled(timing: TimingModel, factor: float) -> TimingModel:
    """The same pool with every coefficient `factor` times as long: its row says how far measurements are off."""
    return replace(
        timing,
        weights_s=tuple(factor * one_s for one_s in timing.weights_s),
        overhead_s=tuple(factor * one_s for one_s in timing.overhead_s),
        kv_token_s=factor * timing.kv_token_s,
        state_s=factor * timing.state_s,
        sequence_flops_s=factor * timing.sequence_flops_s,
        prefill_floor_s=factor * timing.prefill_floor_s,
        prefill_token_s=factor * timing.prefill_token_s,
        prefill_token2_s=factor * timing.prefill_token2_s,
        item_s=None if timing.item_s is None else factor * timing.item_s,
        once_s=factor * timing.once_s,
    )


def _tflops(pool: PoolSpec) -> float:
    """Arithmetic that the weights' format gets on this GPU: FP8 where both have it, else 16 bits."""
    if pool.quantization == "fp8" and pool.gpu.fp8_tflops is not None:
        return pool.gpu.fp8_tflops
    return pool.gpu.fp16_tflops


def _reading_s(pool: PoolSpec, batch: int, bytes_per_s: float) -> float:
    """Reading the weights that a step of `batch` requests touches: all of them for a dense model."""
    model = pool.model
    whole_s = (loaded_weights_gib(pool) - model.not_read_gib) * GIB / bytes_per_s
    if model.experts == 0:
        return whole_s
    share = expert_share(model)
    touched = 1.0 - (1.0 - model.experts_active / model.experts) ** batch
    return whole_s * (1.0 - share + share * touched * MEMORY_EFFICIENCY / EXPERTS_EFFICIENCY)


def _all_reduce_token_s(pool: PoolSpec) -> float:
    """Summing one token's activations over the GPUs, twice a layer: each sends 2(n - 1)/n of them over its link."""
    ranks = pool.tensor_parallel
    sent = 2 * pool.model.layers * pool.model.hidden * 2 * (2 * (ranks - 1) / ranks)
    return sent / (pool.gpu.link_gb_s * 1e9 * LINK_EFFICIENCY)


CONTAINER_START_S = 1.0
"""From the platform's decision to the first line of user code, on Modal."""

VLLM_IMPORTS_S = 25.0
"""Image and imports; published range 10 to 30."""

VLLM_COMPILE_S = 70.0
"""torch.compile and CUDA graphs; published range 30 to 120. With start and imports it gives 96.7 s for a model of
1 GiB, where Modal reports a mean of 95.7 s over some 10,000 starts."""

EAGER = "enforce-eager"
"""The engine argument by which vLLM neither compiles nor captures graphs: a shorter boot, slower steps. How much slower
is not modelled; `time_factor` takes what was measured."""

DIFFUSERS_IMPORTS_S = 20.0
"""Media workers compile nothing."""

WEIGHTS_GB_PER_S = 1.5
"""Reading from a Volume or an image layer: "typically 1 to 3 GB/s"; several GPUs share one container's reading."""


def boot_seconds(pool: PoolSpec) -> float:
    """Seconds from the decision to start a container until it serves: the row's measurement, else first order."""
    if pool.boot_s is not None:
        return pool.boot_s
    compile_s = 0.0 if pool.engine_args.get(EAGER) is True else VLLM_COMPILE_S
    if pool.engine == "llama.cpp":
        software_s = 0.0  # one binary, which compiles nothing
    else:
        software_s = VLLM_IMPORTS_S + compile_s if pool.engine == "vllm" else DIFFUSERS_IMPORTS_S
    weights_gb = pool.model.weights_gib[pool.quantization] * GIB / 1e9
    return CONTAINER_START_S + software_s + weights_gb / WEIGHTS_GB_PER_S
