"""What a row says that the command of its engine would not make true."""

from __future__ import annotations

import pytest

from pools.catalog.engine_args import engine_command
from pools.catalog.load import load_catalog
from pools.catalog.not_kept import not_kept
from pools.spec import PoolSpec
from pricing.errors import FileProblem
from support.values import replace

POOLS = load_catalog().pools
TEXT = POOLS["qwen2.5-coder-7b-bf16-a10"]
FLUX = POOLS["flux-dev-bf16-l40s"]
FACES = POOLS["instantid-fp16-a10"]


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (replace(FLUX, engine="vllm"), "vllm makes no images; set engine: vllm-omni, or diffusers"),
        (replace(TEXT, engine="vllm-omni"), "qwen2.5-coder-7b answers in text; set engine: vllm"),
        (replace(FACES, engine="vllm-omni"), "vllm-omni has no instantid; set engine: diffusers"),
        (
            replace(POOLS["seedvr2-3b-fp8-a10"], engine="vllm-omni"),
            "vllm-omni has no seedvr2-3b; set engine: seedvr2",
        ),
        (replace(FLUX, quantization="fp8"), "vllm-omni would load flux-dev in 16 bits, not as fp8"),
        (
            replace(POOLS["flux-schnell-q4-t4"], engine="vllm-omni", weights_off_gpu_gib=0.0),
            "vllm-omni would load flux-schnell in 16 bits, not as gguf-q4",
        ),
        (replace(FLUX, gpu_count=2), "vllm-omni is started on one GPU, this pool counts with 2; set gpu_count: 1, or"),
        (replace(FACES, gpu_count=2), "diffusers is started on one GPU, this pool counts with 2; set gpu_count: 1"),
        (
            replace(TEXT, weights_off_gpu_gib=8.0),
            "weights_off_gpu_gib: vllm is started with all weights on the GPU; take it out, or give it cpu-offload-gb",
        ),
        (
            replace(FACES, weights_off_gpu_gib=3.0),
            "weights_off_gpu_gib: diffusers is started with all weights on the GPU; take it out",
        ),
    ],
)
def test_a_pool_that_would_be_another_than_its_row_is_not_deployed(pool: PoolSpec, says: str) -> None:
    """Its memory, time and price would be of something that does not run; each is refused with what to do."""
    [problem] = not_kept(pool)
    assert says in problem
    with pytest.raises(FileProblem, match=r"pools/catalog/pools\.yaml:\d+: pool '"):
        engine_command(pool, 8000)


@pytest.mark.parametrize(
    "pool",
    [
        *POOLS.values(),
        replace(TEXT, weights_off_gpu_gib=8.0, engine_args={"cpu-offload-gb": 8}),
        replace(FLUX, weights_off_gpu_gib=8.85, engine_args={"enable-cpu-offload": True}),
        replace(FLUX, gpu_count=2, engine_args={"ulysses-degree": 2}),
        replace(FLUX, quantization="fp8", engine_args={"diffusion-quantization-config": {"method": "fp8"}}),
    ],
    ids=lambda pool: f"{pool.name} {' '.join(pool.engine_args)}",
)
def test_what_a_command_makes_true_is_deployed(pool: PoolSpec) -> None:
    """Every shipped pool, and rows whose own arguments say what they count with."""
    assert list(not_kept(pool)) == []
    assert engine_command(pool, 8000)
