"""Service time and boots of the shipped pools."""

from __future__ import annotations

import pytest

from pools.catalog.load import load_catalog
from pools.fit.timing import (
    REQUEST_OVERHEAD_S,
    TTFT_P95_FACTOR,
    VLLM_COMPILE_S,
    TimingModel,
    boot_seconds,
    timing_model,
)
from support.values import replace

POOLS = load_catalog().pools


def model(name: str) -> TimingModel:
    return timing_model(POOLS[name])


def token_s(name: str, running: int = 0, prompt: int = 500) -> float:
    """Seconds of one more output token."""
    timing = model(name)
    return timing.estimate(prompt, 101, running).total_s - timing.estimate(prompt, 100, running).total_s


@pytest.mark.parametrize(
    ("pool", "floor_ms"),
    [
        ("qwen3-4b-fp16-t4", 25.0),
        ("qwen3-4b-bf16-a10", 13.4),
        ("qwen3-vl-8b-bf16-l40s", 17.0),
        ("qwen3-vl-8b-bf16-a100-80", 7.4),
    ],
)
def test_a_token_takes_the_reading_of_the_weights(pool: str, floor_ms: float) -> None:
    """Alone, a token takes the weights over the bandwidth at 80%, and a few milliseconds of overhead."""
    assert floor_ms / 0.8 < token_s(pool) * 1e3 < floor_ms / 0.8 + 5


def test_the_documents_own_measurements_on_an_a10g() -> None:
    """The model is optimistic there: the documents' engines of 2025 reached 0.6 to 0.9 of its tokens a second."""
    batch_of_ten = 10 * 232 / model("qwen3-4b-bf16-a10").estimate(30, 232, 9).total_s
    alone = 1 / token_s("qwen2.5-coder-7b-bf16-a10")
    assert 0.6 < 337 / batch_of_ten < 0.9
    assert 0.6 < 21 / alone < 0.9


def test_fp8_on_a_card_without_fp8_arithmetic_halves_reading_only() -> None:
    """On the A10, FP8 speeds up tokens but not prefill; the L4, which has FP8, prefills faster and decodes slower."""
    a10 = POOLS["qwen3-vl-8b-fp8-a10"]
    fp8, bf16 = timing_model(a10), timing_model(replace(a10, quantization="bf16"))
    assert fp8.estimate(4000, 1, 0).ttft_s == pytest.approx(bf16.estimate(4000, 1, 0).ttft_s, rel=0.02)
    assert token_s("qwen3-vl-8b-fp8-a10") < token_s("qwen3-vl-8b-fp8-l4")
    assert model("qwen3-vl-8b-fp8-l4").estimate(4000, 1, 0).ttft_s < fp8.estimate(4000, 1, 0).ttft_s


def test_experts_lose_their_advantage_under_load() -> None:
    """A batch of 32 touches 87% of 128 experts with 8 active, so its step reads nearly all of the weights."""
    weights = model("qwen3-coder-30b-fp8-a100-40").weights_s
    assert weights[1] < 0.15 * weights[256]
    assert weights[32] == pytest.approx(0.88 * weights[256], rel=0.02)


def test_more_gpus_are_faster_but_not_in_proportion() -> None:
    """Two GPUs halve the reading of the weights, but add all-reduces: less than twice as fast."""
    one = POOLS["qwen3-vl-8b-bf16-a100-80"]
    two = timing_model(replace(one, gpu_count=2, tensor_parallel=2)).estimate(500, 200, 0).total_s
    assert 0.5 < two / timing_model(one).estimate(500, 200, 0).total_s < 1


def test_requests_beside_it_slow_one_down() -> None:
    """Eight at once take longer each, but far less than eight times as long."""
    timing = model("qwen3-vl-8b-bf16-l40s")
    alone, beside = timing.estimate(1000, 200, 0), timing.estimate(1000, 200, 7)
    assert alone.total_s < beside.total_s < 2 * alone.total_s
    assert alone.ttft_s < beside.ttft_s


@pytest.mark.parametrize("pool", ["qwen3-4b-fp16-t4", "qwen3-vl-8b-bf16-l40s", "qwen3-next-80b-fp8-h200"])
def test_a_cached_prefix_saves_its_own_prefill(pool: str) -> None:
    """All of it cached leaves one reading of the weights; half of it saves less than half, since the rest attends to
    more; what is below one reading saves nothing.
    """
    timing = model(pool)
    whole, half = timing.cache_saves_s(20_000, 20_000), timing.cache_saves_s(20_000, 10_000)
    expected = timing.estimate(20_000, 1, 0).ttft_s - timing.estimate(0, 1, 0).ttft_s
    assert whole == pytest.approx(expected, rel=0.02)
    assert 0 < half < whole / 2
    assert timing.cache_saves_s(8, 8) == timing.cache_saves_s(20_000, 0) == 0


def test_media_take_their_seconds_one_by_one() -> None:
    """Two images behind one that is running take three times the seconds of one; there is no earlier first token."""
    time = model("flux-dev-bf16-l40s").estimate(0, 0, 1, items=2)
    assert (time.ttft_s, time.total_s) == (36, 36)


def test_the_95th_percentile_is_a_stated_multiple() -> None:
    """The first token's 95th percentile is twice its expectation, as measured servers show."""
    time = model("qwen3-4b-bf16-a10").estimate(1000, 200, 3)
    assert time.ttft_p95_s == TTFT_P95_FACTOR * time.ttft_s == 2 * time.ttft_s


def test_a_boot_is_software_and_weights() -> None:
    """A model of 1 GiB boots in about the 95.7 s that Modal reports as the mean; the 480B reads for 320 s longer."""
    small = replace(
        POOLS["qwen3-4b-bf16-a10"], model=replace(POOLS["qwen3-4b-bf16-a10"].model, weights_gib={"bf16": 1})
    )
    assert boot_seconds(small) == pytest.approx(95.7, abs=2)
    large = boot_seconds(POOLS["qwen3-coder-480b-fp8-8xh100"])
    assert large - boot_seconds(small) == pytest.approx(449.1 * 1.0737 / 1.5, rel=0.01)


def test_a_measured_boot_replaces_the_modelled_one() -> None:
    """A row's own boot_s is used as it is."""
    assert boot_seconds(replace(POOLS["qwen3-4b-bf16-a10"], boot_s=41.5)) == 41.5


def test_media_workers_compile_nothing() -> None:
    """Their boot is start, imports and weights."""
    assert boot_seconds(POOLS["flux-dev-bf16-l40s"]) == pytest.approx(1 + 20 + 31.5 * 1.0737 / 1.5, rel=0.01)


@pytest.mark.parametrize("name", ["qwen3-4b-bf16-a10", "qwen3-next-80b-fp8-h200", "flux-dev-bf16-l40s"])
def test_a_measured_factor_stretches_every_time_but_the_fixed_overhead(name: str) -> None:
    """Twice the factor is twice the time, at every load, apart from what each request costs whatever the GPU."""
    pool = POOLS[name]
    plain, twice = model(name), timing_model(replace(pool, time_factor=2.0))
    fixed_s = REQUEST_OVERHEAD_S if pool.max_model_len else 0.0
    for running in (0, 7, 63):
        one, other = plain.estimate(2000, 100, running, 2), twice.estimate(2000, 100, running, 2)
        assert other.total_s - fixed_s == pytest.approx(2 * (one.total_s - fixed_s))
        assert other.ttft_s - fixed_s == pytest.approx(2 * (one.ttft_s - fixed_s))
    assert twice.cache_saves_s(2000, 1000) == pytest.approx(2 * plain.cache_saves_s(2000, 1000))


def test_eager_mode_boots_without_compiling() -> None:
    """`enforce-eager` in a row's engine_args takes compilation out of its modelled boot, and nothing else."""
    pool = POOLS["qwen3-next-80b-fp8-h200"]
    eager = replace(pool, engine_args={"enforce-eager": True})
    assert boot_seconds(pool) - boot_seconds(eager) == pytest.approx(VLLM_COMPILE_S)
    assert boot_seconds(replace(pool, engine_args={"enforce-eager": False})) == boot_seconds(pool)
    assert boot_seconds(replace(eager, boot_s=7.0)) == 7.0
