"""More memory never fits less, and more work never takes less time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pools.catalog.load import load_catalog
from pools.fit.memory import fit
from pools.fit.timing import timing_model
from pools.spec import CaseSpec, GpuSpec, PoolSpec
from support.values import replace

CATALOG = load_catalog()
TEXT = [pool for pool in CATALOG.pools.values() if pool.max_model_len]
TIMING = {name: timing_model(pool) for name, pool in CATALOG.pools.items()}

text_pools = st.sampled_from(TEXT)
gpus = st.sampled_from(list(CATALOG.gpus.values()))
tokens = st.integers(0, 262144)
running = st.integers(0, 300)


@given(text_pools, gpus, st.floats(0.1, 1.0), st.floats(0.1, 1.0))
def test_more_utilization_never_holds_less(pool: PoolSpec, gpu: GpuSpec, one: float, other: float) -> None:
    """KV tokens, longest context and whether it loads do not fall when utilization rises."""
    low, high = (fit(replace(pool, gpu=gpu, gpu_memory_utilization=share), {}) for share in sorted((one, other)))
    assert low.kv_tokens <= high.kv_tokens
    assert low.largest_max_model_len <= high.largest_max_model_len
    assert high.loads or not low.loads


@given(text_pools, st.floats(1, 300), st.floats(1, 300))
def test_more_memory_never_holds_less(pool: PoolSpec, one: float, other: float) -> None:
    """The same on a card of the same kind with more memory."""
    small, large = (fit(replace(pool, gpu=replace(pool.gpu, memory_gib=gib)), {}) for gib in sorted((one, other)))
    assert small.kv_tokens <= large.kv_tokens
    assert large.loads or not small.loads


@given(text_pools, gpus, st.integers(1, 300_000), st.integers(1, 300_000))
def test_a_shorter_context_loads_where_a_longer_one_does(pool: PoolSpec, gpu: GpuSpec, one: int, other: int) -> None:
    """If a pool loads at a context, it loads at every shorter one, and none is longer than the stated limit."""
    short, long = (fit(replace(pool, gpu=gpu, max_model_len=length), {}) for length in sorted((one, other)))
    assert short.loads or not long.loads
    assert not long.loads or max(one, other) <= long.largest_max_model_len


@given(text_pools, gpus, st.integers(1, 100_000), st.integers(1, 100_000))
def test_longer_requests_never_fit_more_often(pool: PoolSpec, gpu: GpuSpec, one: int, other: int) -> None:
    """Concurrency does not rise with the context, and that many requests do fit."""
    result = fit(replace(pool, gpu=gpu), {})
    short, long = sorted((one, other))
    assert result.concurrency_at(short) >= result.concurrency_at(long)
    assert result.concurrency_at(long) * long <= result.kv_tokens


@given(st.sampled_from(list(CATALOG.cases.values())), st.data())
def test_a_pool_that_cannot_load_says_why(case: CaseSpec, data: st.DataObject) -> None:
    """`loads` and `problem` are two sides of one thing, and a remedy comes with a problem only."""
    pool = replace(case.pool, gpu=data.draw(gpus), gpu_memory_utilization=data.draw(st.floats(0.3, 1.0)))
    result = fit(pool, CATALOG.gpus)
    assert result.loads is (result.problem is None)
    assert result.remedy is None or result.problem is not None


@given(st.sampled_from(list(TIMING)), tokens, tokens, tokens, tokens, running, running)
def test_more_work_never_takes_less_time(
    name: str, prompt: int, more_prompt: int, output: int, more_output: int, beside: int, more_beside: int
) -> None:
    """More prompt, output or company never makes the whole answer faster; nor do prompt and company the first token."""
    timing = TIMING[name]
    time = timing.estimate(prompt, output, beside)
    least_total_s, least_ttft_s = time.total_s * (1 - 1e-12), time.ttft_s * (1 - 1e-12)
    assert timing.estimate(prompt, output + more_output, beside).total_s >= least_total_s
    longer = timing.estimate(prompt + more_prompt, output, beside)
    busier = timing.estimate(prompt, output, beside + more_beside)
    for other in (longer, busier):
        assert other.total_s >= least_total_s
        assert other.ttft_s >= least_ttft_s


@given(st.sampled_from(list(TIMING)), tokens, tokens, running)
def test_the_first_token_comes_before_the_last(name: str, prompt: int, output: int, beside: int) -> None:
    """0 < first token <= last token, and the 95th percentile is not below the expectation."""
    time = TIMING[name].estimate(prompt, output, beside)
    assert 0 < time.ttft_s <= time.total_s
    assert time.ttft_p95_s >= time.ttft_s
