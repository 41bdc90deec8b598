"""What an engine cannot run, whatever the memory."""

from __future__ import annotations

from typing import Any

import pytest

from pools.catalog.load import load_catalog
from pools.fit.compatibility import obstacles, version
from support.values import replace

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("pool", "changes", "said"),
    [
        ("qwen3-4b-fp16-t4", {"quantization": "bf16"}, ["bf16 needs compute capability 8.0, T4 has 7.5"]),
        ("qwen3-4b-fp16-t4", {"quantization": "fp8", "engine_version": "0.13.0"}, ["need vLLM 0.14"]),
        ("qwen3-4b-fp16-t4", {"quantization": "fp8", "engine_version": "0.14.1"}, []),
        ("qwen3-4b-bf16-a10", {"quantization": "fp8", "engine_version": "0.9.2"}, []),
        ("qwen3-4b-bf16-a10", {"quantization": "gguf-q4"}, ["no longer reads GGUF"]),
        ("qwen3-4b-bf16-a10", {"quantization": "gguf-q4", "engine_version": "0.20.2"}, []),
        ("flux-schnell-q4-t4", {}, []),
        ("qwen3-vl-8b-fp8-a10", {"engine_version": "0.10.2"}, ["qwen3-vl-8b needs vLLM 0.11.0, this pool runs 0.10.2"]),
        ("qwen3-4b-bf16-a10", {"gpu_count": 8, "tensor_parallel": 8}, ["at most 4×A10, this pool asks for 8"]),
        ("qwen3-4b-bf16-a10", {"gpu_count": 3, "tensor_parallel": 2}, ["does not divide gpu_count 3"]),
        ("qwen2.5-coder-7b-bf16-a10", {"tensor_parallel": 8, "gpu_count": 8}, ["at most", "28 attention heads"]),
        ("qwen3-4b-bf16-a10", {"tensor_parallel": 16, "gpu_count": 16}, ["at most"]),
        ("qwen2.5-coder-7b-bf16-a10", {"tensor_parallel": 7, "gpu_count": 7}, ["at most", "7 and the 4 KV heads"]),
        ("qwen3-coder-480b-fp8-8xh100", {"expert_parallel": False}, ["20 FP8 blocks", "tensor_parallel 4 or expert"]),
        ("qwen3-coder-480b-fp8-4xh200", {}, []),
        ("qwen3-coder-30b-fp8-a100-40", {"tensor_parallel": 4, "gpu_count": 4}, ["6 FP8 blocks", "(768 / 128)"]),
        ("qwen3-coder-30b-fp8-a100-40", {"tensor_parallel": 2, "gpu_count": 2}, []),
    ],
)  # fmt: skip
def test_obstacles(pool: str, changes: dict[str, Any], said: list[str]) -> None:
    """Formats, releases and divisibility are refused where vLLM refuses them, and only there."""
    found = list(obstacles(replace(CATALOG.pools[pool], **changes)))
    for text in said:
        assert any(text in one for one in found), (text, found)
    assert bool(found) is bool(said)


def test_versions_compare_as_numbers() -> None:
    """0.9.2 is before 0.14, and a local suffix is ignored."""
    assert version("0.9.2") < version("0.14") <= version("0.14.1")
    assert version("0.32.0+cpu") == (0, 32)
