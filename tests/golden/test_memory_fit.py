"""The published memory table of the documents' models, cell by cell, and vLLM's own figures."""

from __future__ import annotations

import pytest

from pools.catalog.load import load_catalog
from pools.fit.memory import MemoryFit, fit, kv_bytes_per_token
from pools.spec import PoolSpec
from support.values import replace

CATALOG = load_catalog()

# Model, format, GPU -> thousands of KV tokens left at a utilization of 0.92; None: does not load.
KV_THOUSANDS = [
    ("qwen3-4b", "fp16", "T4", 33),
    ("qwen3-4b", "bf16", "A10", 82),
    ("qwen3-4b", "bf16", "L4", 82),
    ("qwen3-4b", "bf16", "L40S", 232),
    ("qwen3-4b", "bf16", "A100-80GB", 465),
    ("qwen3-4b", "bf16", "H100", 465),
    ("qwen3-4b", "bf16", "H200", 871),
    ("qwen2.5-coder-7b", "fp16", "T4", None),
    ("qwen2.5-coder-7b", "awq", "T4", 128),
    ("qwen2.5-coder-7b", "bf16", "A10", 87),
    ("qwen2.5-coder-7b", "awq", "A10", 255),
    ("qwen2.5-coder-7b", "bf16", "L40S", 472),
    ("qwen2.5-coder-7b", "bf16", "A100-80GB", 1070),
    ("qwen2.5-coder-7b", "bf16", "H200", 2114),
    ("qwen3-vl-8b", "fp16", "T4", None),
    ("qwen3-vl-8b", "fp8", "T4", 15),
    ("qwen3-vl-8b", "awq", "T4", 38),
    ("qwen3-vl-8b", "bf16", "A10", 18),
    ("qwen3-vl-8b", "fp8", "A10", 65),
    ("qwen3-vl-8b", "fp8", "L4", 65),
    ("qwen3-vl-8b", "awq", "A10", 87),
    ("qwen3-vl-8b", "bf16", "L40S", 168),
    ("qwen3-vl-8b", "bf16", "A100-80GB", 400),
    ("qwen3-vl-8b", "bf16", "H200", 806),
    ("qwen3-coder-30b", "bf16", "T4", None),
    ("qwen3-coder-30b", "fp8", "T4", None),
    ("qwen3-coder-30b", "bf16", "A10", None),
    ("qwen3-coder-30b", "fp8", "A10", None),
    ("qwen3-coder-30b", "fp8", "L4", None),
    ("qwen3-coder-30b", "bf16", "L40S", None),
    ("qwen3-coder-30b", "fp8", "L40S", 113),
    ("qwen3-coder-30b", "bf16", "A100-80GB", 158),
    ("qwen3-coder-30b", "fp8", "H100", 462),
    ("qwen3-coder-30b", "bf16", "H200", 767),
    ("qwen3-next-80b", "fp8", "T4", None),
    ("qwen3-next-80b", "fp8", "A10", None),
    ("qwen3-next-80b", "fp8", "L40S", None),
    ("qwen3-next-80b", "fp8", "A100-80GB", None),
    ("qwen3-next-80b", "fp8", "H100", None),
    ("qwen3-coder-480b", "fp8", "H100", None),
    ("qwen3-coder-480b", "fp8", "H200", None),
]


def placed(model: str, quantization: str, gpu: str, gpu_count: int = 1) -> PoolSpec:
    """A model on some GPUs, at a context short enough not to matter."""
    return replace(
        CATALOG.pools["qwen3-4b-bf16-a10"],
        model=CATALOG.models[model],
        quantization=quantization,
        gpu=CATALOG.gpus[gpu],
        gpu_count=gpu_count,
        tensor_parallel=gpu_count,
        max_model_len=8192,
    )


def fitted(pool: PoolSpec) -> MemoryFit:
    return fit(pool, CATALOG.gpus)


@pytest.mark.parametrize(("model", "quantization", "gpu", "thousands"), KV_THOUSANDS)
def test_kv_tokens_left(model: str, quantization: str, gpu: str, thousands: int | None) -> None:
    """Each cell: the KV tokens left agree within 1 GiB or 2%, or the placement does not load."""
    result = fitted(placed(model, quantization, gpu))
    assert result.loads is (thousands is not None)
    if thousands is not None:
        off = abs(result.kv_tokens - thousands * 1000)
        assert off <= max(2**30 / result.kv_bytes_per_token, 0.02 * thousands * 1000)


@pytest.mark.parametrize(
    ("model", "gpu", "count", "left_gib"),
    [
        ("qwen3-next-80b", "H200", 1, 52.0),
        ("qwen3-coder-480b", "H100", 8, 118.0),
        ("qwen3-coder-480b", "H200", 4, 57.0),
        ("qwen3-4b", "T4", 1, 4.5),
    ],
)
def test_gib_left_on_large_placements(model: str, gpu: str, count: int, left_gib: float) -> None:
    """The cells that the table gives in GiB agree within 1 GiB."""
    form = "fp16" if gpu == "T4" else "fp8"
    pool = replace(placed(model, form, gpu, count), expert_parallel=model == "qwen3-coder-480b")
    result = fitted(pool)
    assert result.loads
    assert abs(result.kv_gib - left_gib) <= 1.0


def test_four_h100_are_short_for_the_480b() -> None:
    """Its 449 GiB exceed the budget of 291 GiB on four H100, by about 166 GiB with the overhead."""
    result = fitted(placed("qwen3-coder-480b", "fp8", "H100", 4))
    assert (round(result.weights_gib), round(result.budget_gib)) == (449, 291)
    assert abs(result.weights_gib + result.overhead_gib - result.budget_gib - 166) <= 1


def test_vllms_own_figure_for_the_480b() -> None:
    """vLLM asked for 62.00 GiB of KV cache at 262,144 tokens of the 480B; so does the formula, exactly."""
    assert 262144 * kv_bytes_per_token(CATALOG.pools["qwen3-coder-480b-fp8-4xh200"]) / 2**30 == 62.0


@pytest.mark.parametrize(
    ("model", "kib"),
    [
        ("qwen3-4b", 144),
        ("qwen2.5-coder-7b", 56),
        ("qwen3-vl-8b", 144),
        ("qwen3-coder-30b", 96),
        ("qwen3-next-80b", 24),
        ("qwen3-coder-480b", 248),
    ],
)
def test_kv_bytes_of_one_token(model: str, kib: int) -> None:
    """KiB of 16-bit KV cache per token, on one GPU."""
    form = "fp8" if "fp8" in CATALOG.models[model].weights_gib else "bf16"
    assert kv_bytes_per_token(placed(model, form, "H200")) == kib * 1024


def test_what_is_said_about_each_case() -> None:
    """Each placement of the documents that cannot load is refused with this arithmetic and this remedy."""
    said = {name: (fitted(case.pool).problem, fitted(case.pool).remedy) for name, case in CATALOG.cases.items()}
    assert said == {
        "qwen3-next-80b-fp8-1xh100": (
            "weights 74.9 GiB + overhead 1.5 GiB > 72.9 GiB on 1×H100 (1 × 79.2 × 0.92), short by 3.5 GiB",
            "fits 2×H100 or 1×H200",
        ),
        "qwen3-coder-480b-fp8-4xh100": (
            "weights 449.1 GiB + overhead 8.0 GiB > 291.5 GiB on 4×H100 (4 × 79.2 × 0.92), short by 165.6 GiB",
            "fits 8×H100 or 4×H200 (8×H100 with expert_parallel)",
        ),
        "qwen3-coder-480b-fp8-8xh100-tp8": (
            "tensor_parallel 8 does not divide the 20 FP8 blocks of an expert (2560 / 128); "
            "use tensor_parallel 4 or expert_parallel",
            "fits 4×H200",
        ),
        "flux-schnell-bf16-t4": (
            "bf16 needs compute capability 8.0, T4 has 7.5; use fp16 or a quantized format; weights 31.5 GiB + "
            "activations 2.4 GiB + overhead 1.5 GiB > 13.6 GiB on 1×T4 (1 × 14.74 × 0.92), short by 21.8 GiB",
            "fits 1×A100-40GB",
        ),
        "wan2.1-14b-bf16-l40s": (
            "weights 37.7 GiB + activations 8.8 GiB + overhead 1.5 GiB > 40.8 GiB on 1×L40S (1 × 44.4 × 0.92), "
            "short by 7.2 GiB",
            "fits 1×A100-80GB",
        ),
        "wan2.1-14b-bf16-a100-40": (
            "weights 37.7 GiB + activations 8.8 GiB + overhead 1.5 GiB > 36.3 GiB on 1×A100-40GB (1 × 39.5 × 0.92), "
            "short by 11.7 GiB",
            "fits 1×A100-80GB",
        ),
        "qwen3-coder-30b-fp8-a100-40-256k": (
            "max_model_len 262144 needs 24.0 GiB of KV, 5.8 GiB left on 1×A100-40GB; the largest that fits is 63460",
            "lower max_model_len to 63460 or less; fits 2×A100-40GB or 1×A100-80GB",
        ),
        "qwen3-4b-bf16-a10-native": (
            "max_model_len 262144 needs 36.0 GiB of KV, 11.3 GiB left on 1×A10; the largest that fits is 82589",
            "lower max_model_len to 82589 or less; fits 4×A10 or 1×A100-80GB",
        ),
        "qwen3-4b-bf16-t4": (
            "bf16 needs compute capability 8.0, T4 has 7.5; use fp16 or a quantized format",
            "fits 1×L4; on 1×T4 it loads as fp16 or fp8",
        ),
        "qwen3-vl-8b-bf16-a10": (
            "max_model_len 153520 needs 21.1 GiB of KV, 2.5 GiB left on 1×A10; the largest that fits is 18219",
            "lower max_model_len to 18219 or less; fits 4×A10 or 1×L40S",
        ),
        "qwen3-vl-8b-bf16-t4": (
            "bf16 needs compute capability 8.0, T4 has 7.5; use fp16 or a quantized format; weights 16.3 GiB + "
            "overhead 1.5 GiB > 13.6 GiB on 1×T4 (1 × 14.74 × 0.92), short by 4.3 GiB",
            "fits 1×L4; on 1×T4 it loads as awq",
        ),
    }
