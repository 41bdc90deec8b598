"""Pages of metrics: what engines say of requests and caches, whatever else stands there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.live.engine_metrics import EngineLoad, read_load

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen3-4b"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="qwen3-4b"} 2.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwen3-4b",reason="capacity"} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="qwen3-4b"} 0.625
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="qwen3-4b"} 19.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="qwen3-4b"} 0.0
"""
LLAMA = """\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 4
"""


def test_vllm_says_all_of_it() -> None:
    """Waiting by reason is the same requests again, and not counted twice."""
    assert read_load(VLLM) == EngineLoad(running=3, waiting=2, kv_usage=0.625, preemptions=19)


def test_several_ranks_are_one_engine() -> None:
    """Requests add up; the fullest cache is the one that will run out."""
    second = VLLM.replace('engine="0"', 'engine="1"').replace("0.625", "0.875")
    assert read_load(VLLM + second) == EngineLoad(running=6, waiting=4, kv_usage=0.875, preemptions=38)


def test_older_vllm_calls_its_cache_otherwise() -> None:
    """Until 0.12."""
    load = read_load(VLLM.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"))
    assert load is not None
    assert load.kv_usage == 0.625


def test_llama_cpp_says_less() -> None:
    """Of its cache nothing, in its later releases; what it does not say is not 0."""
    assert read_load(LLAMA) == EngineLoad(running=1, waiting=4)


@pytest.mark.parametrize("page", ["", "<html>no metrics here</html>", "other_requests_running 3\n"])
def test_a_page_of_something_else_says_nothing(page: str) -> None:
    """It is no engine that runs nothing."""
    assert read_load(page) is None


@pytest.mark.parametrize("line", ["vllm:num_requests_running -1", "vllm:num_requests_running NaN",
                                  "vllm:num_requests_running{ 1", "vllm:num_requests_running +Inf"])  # fmt: skip
def test_numbers_that_are_none_are_refused(line: str) -> None:
    """A page that lies is a page that does not answer."""
    with pytest.raises(ValueError):
        read_load(f"{line}\n")


@given(st.text(max_size=300))
def test_no_page_breaks_the_reader(page: str) -> None:
    """Whatever a server sends, it is read or a ValueError."""
    try:
        load = read_load(f"{page}\nvllm:num_requests_running{page}")
    except ValueError:
        return
    assert load is None or load.running >= 0
