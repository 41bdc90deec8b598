"""Memory fit: what one pool's GPUs hold, beyond the table of the golden test."""

from __future__ import annotations

from pathlib import Path

import pytest

from pools.catalog.load import load_catalog
from pools.fit.memory import CONTIGUOUS_SHARE, expert_share, fit, kv_bytes_per_token, loaded_weights_gib
from pools.spec import KvCache
from support.values import replace

CATALOG = load_catalog()
POOLS = CATALOG.pools


def test_weights_kept_off_the_gpu_need_no_room_there() -> None:
    """The text encoder on the CPU is what makes Flux fit a T4; with it, its arithmetic says why not."""
    pool = POOLS["flux-schnell-q4-t4"]
    assert fit(pool, CATALOG.gpus).loads
    whole = fit(replace(pool, weights_off_gpu_gib=0.0), CATALOG.gpus)
    assert not whole.loads
    assert (whole.problem or "").startswith("weights 15.7 GiB + activations 2.4 GiB + overhead 1.5 GiB > 13.6 GiB")


def test_media_pools_hold_no_kv_cache() -> None:
    """A pool of images has no KV tokens, no context and no concurrency by context."""
    result = fit(POOLS["flux-dev-bf16-l40s"], CATALOG.gpus)
    assert (result.kv_gib, result.kv_tokens, result.largest_max_model_len, result.concurrency_at(4096)) == (0, 0, 0, 0)


def test_concurrency_is_memory_over_context() -> None:
    """23.0 GiB of KV at 144 KiB a token hold 40 requests of 4,096 tokens, and one of 153,520."""
    result = fit(POOLS["qwen3-vl-8b-bf16-l40s"], CATALOG.gpus)
    assert result.concurrency_at(4096) == 40
    assert result.concurrency_at(153520) == 1
    assert result.concurrency_at(result.kv_tokens + 1) == 0


def test_linear_attention_keeps_a_state_per_request() -> None:
    """Qwen3-Next's state of 74 MiB counts for each request: short ones are not free."""
    result = fit(POOLS["qwen3-next-80b-fp8-h200"], CATALOG.gpus)
    assert result.concurrency_at(1) == int(result.kv_gib * 1024 // (74 + 24 / 1024))


def test_kv_heads_are_repeated_when_there_are_more_gpus_than_heads() -> None:
    """Two KV heads on four GPUs cost twice the cache of two heads on two."""
    pool = POOLS["qwen3-next-80b-fp8-2xh100"]
    four = replace(pool, gpu_count=4, tensor_parallel=4)
    assert kv_bytes_per_token(four) == 2 * kv_bytes_per_token(pool)


def test_data_parallel_ranks_copy_weights_and_part_the_cache() -> None:
    """Eight ranks repeat all but the experts, and the longest context is what one rank holds."""
    tensor = POOLS["qwen3-coder-480b-fp8-8xh100"]
    data = replace(tensor, tensor_parallel=1)
    repeated = 7 * (1 - 160 * 62 * 3 * 6144 * 2560 / 480.2e9) * 449.1
    assert loaded_weights_gib(data) - loaded_weights_gib(tensor) == pytest.approx(repeated)
    result = fit(data, CATALOG.gpus)
    assert result.ranks == 8
    assert result.largest_max_model_len < result.kv_tokens // 8 + 1
    assert result.concurrency_at(8192) % 8 == 0


def test_a_context_above_the_models_own_is_refused() -> None:
    """Memory for more does not make a model read more than it was trained for."""
    result = fit(replace(POOLS["qwen2.5-coder-7b-bf16-a10"], max_model_len=65536), CATALOG.gpus)
    assert result.problem == "max_model_len 65536 is above the 32768 tokens of qwen2.5-coder-7b; lower it"
    assert result.remedy == "lower max_model_len to 32768 or less"
    assert result.largest_max_model_len == 32768


def test_a_context_that_does_not_fit_says_which_does() -> None:
    """The message has what is needed, what is left, and the largest context; that one then loads."""
    pool = replace(POOLS["qwen3-vl-8b-fp8-a10"], max_model_len=262144)
    result = fit(pool, CATALOG.gpus)
    assert result.problem == (
        "max_model_len 262144 needs 36.0 GiB of KV, 9.0 GiB left on 1×A10; the largest that fits is 65332"
    )
    assert fit(replace(pool, max_model_len=65332), CATALOG.gpus).loads


def test_each_remedy_would_load() -> None:
    """The placements that a remedy names are ones that fit."""
    case = CATALOG.cases["qwen3-coder-480b-fp8-4xh100"].pool
    eight = replace(case, gpu_count=8, tensor_parallel=8, expert_parallel=True)
    assert fit(eight, CATALOG.gpus).loads
    four = replace(case, gpu=CATALOG.gpus["H200"])
    assert fit(four, CATALOG.gpus).loads
    assert not fit(replace(case, gpu=CATALOG.gpus["H200"], gpu_count=2, tensor_parallel=2), CATALOG.gpus).loads


def test_nothing_is_promised_where_nothing_fits() -> None:
    """Among T4s alone, no placement holds the 480B, so there is no remedy."""
    case = CATALOG.cases["qwen3-coder-480b-fp8-4xh100"].pool
    assert fit(case, {"T4": CATALOG.gpus["T4"]}).remedy is None


def test_fp8_without_fp8_arithmetic_is_noted() -> None:
    """An A10 runs FP8 weights: half the memory, but 16-bit arithmetic, and the fit says so. An L4 has no such note."""
    assert fit(POOLS["qwen3-vl-8b-fp8-a10"], CATALOG.gpus).notes == (
        "FP8 is weight-only on A10 (8.6): half the memory of 16 bits, and 16-bit arithmetic",
    )
    assert fit(POOLS["qwen3-vl-8b-fp8-l4"], CATALOG.gpus).notes == ()


def test_a_contiguous_cache_holds_a_share_of_what_a_paged_one_does() -> None:
    """The longest request that fits shrinks with it, so a row that asks for more is refused."""
    pool = replace(POOLS["qwen3-vl-8b-bf16-l40s"], max_model_len=32_768)
    paged = fit(pool, CATALOG.gpus)
    contiguous = fit(replace(pool, kv_cache=KvCache.CONTIGUOUS), CATALOG.gpus)
    assert contiguous.kv_tokens == pytest.approx(paged.kv_tokens * CONTIGUOUS_SHARE, rel=1e-4)
    assert (paged.loads, contiguous.loads) == (True, True)
    assert not fit(replace(pool, kv_cache=KvCache.CONTIGUOUS, max_model_len=131_072), CATALOG.gpus).loads


@pytest.mark.parametrize("cache", KvCache)
def test_what_an_engine_logs_counts_before_arithmetic(cache: KvCache) -> None:
    """Whatever the kind of its cache."""
    pool = replace(POOLS["qwen3-vl-8b-bf16-l40s"], kv_tokens=40_000, kv_cache=cache, max_model_len=32_768)
    assert fit(pool, CATALOG.gpus).kv_tokens == 40_000
    assert not fit(replace(pool, kv_tokens=30_000), CATALOG.gpus).loads


DEEPSEEK = """
models:
  deepseek-v3:
    repo: deepseek-ai/DeepSeek-V3
    kind: text
    params_b: 671
    active_params_b: 37
    weights: {fp8: {gib: 641}}
    native_context: 163840
    layers: 61
    hidden: 7168
    q_heads: 128
    kv_heads: 1 # one latent for all heads
    head_dim: 288 # half of its 512 + 64 values
    experts: 256
    experts_active: 8
    expert_intermediate: 2048
    expert_layers: 58 # the first three are dense
    fp8_block: 128
    source: config.json of the repository
pools:
  deepseek:
    model: deepseek-v3
    quantization: fp8
    gpu: H200
    gpu_count: 8
    engine_version: "0.32.0"
    max_model_len: 163840
"""


def test_a_mixture_of_experts_behind_dense_layers_is_counted_as_it_is(tmp_path: Path) -> None:
    """DeepSeek-V3: 653.9 of 671 billion parameters are in experts, and a token's latent takes 68.6 KiB on each GPU."""
    path = tmp_path / "deepseek.yaml"
    path.write_text(DEEPSEEK, encoding="utf-8")
    pool = load_catalog([path]).pools["deepseek"]
    assert expert_share(pool.model) == pytest.approx(653.9 / 671, abs=1e-4)
    assert kv_bytes_per_token(pool) == 8 * 61 * 576 * 2
    assert kv_bytes_per_token(replace(pool, tensor_parallel=1)) == 70_272
    assert fit(pool, CATALOG.gpus).loads
    on_h100 = fit(replace(pool, gpu=CATALOG.gpus["H100"]), CATALOG.gpus)
    assert (on_h100.problem or "").startswith("weights 641.0 GiB + overhead 16.0 GiB > 582.9 GiB on 8×H100")
    assert on_h100.remedy == "fits 8×H200"


def test_a_model_without_any_kv_cache_is_held_by_its_states() -> None:
    """Of a model whose layers all keep a fixed state, each request takes one, however long it is."""
    pool = POOLS["qwen3-4b-bf16-a10"]
    states = replace(pool, model=replace(pool.model, attention_layers=0, state_mib_per_sequence=100.0))
    result = fit(replace(states, max_model_len=262144), CATALOG.gpus)
    assert result.loads
    assert (result.kv_tokens, result.largest_max_model_len) == (0, 262144)
    assert result.concurrency_at(4096) == result.concurrency_at(262144) == int(result.kv_gib * 1024 // 100)
    small = replace(states, model=replace(states.model, state_mib_per_sequence=20_000.0))
    assert not fit(small, CATALOG.gpus).loads


def test_an_8_bit_cache_holds_twice_the_tokens() -> None:
    """`kv-cache-dtype: fp8` halves a token's bytes; `auto` is the 16 bits of the weights."""
    pool = POOLS["qwen3-4b-bf16-a10"]
    eight = replace(pool, engine_args={"kv-cache-dtype": "fp8"})
    assert kv_bytes_per_token(pool) == 2 * kv_bytes_per_token(eight)
    assert kv_bytes_per_token(replace(pool, engine_args={"kv-cache-dtype": "auto"})) == kv_bytes_per_token(pool)
    assert fit(replace(eight, max_model_len=131072), CATALOG.gpus).loads
    assert not fit(replace(pool, max_model_len=131072), CATALOG.gpus).loads


def test_expert_parallelism_needs_experts() -> None:
    """vLLM ends at the start of a dense model that is told to spread its experts."""
    result = fit(replace(POOLS["qwen3-4b-bf16-a10"], expert_parallel=True), CATALOG.gpus)
    assert result.problem == "expert_parallel needs a mixture of experts, qwen3-4b has none; take it out"


def test_a_low_utilization_is_proposed_to_be_raised() -> None:
    """Before other GPUs are: what does not fit into 30% of a card may fit into what vLLM takes by itself."""
    result = fit(replace(POOLS["qwen3-4b-bf16-a10"], gpu_memory_utilization=0.3), CATALOG.gpus)
    assert (result.remedy or "").startswith("raise gpu_memory_utilization to 0.92; ")
