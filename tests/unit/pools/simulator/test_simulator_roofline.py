"""The simulator's own idea of speed and memory."""

from __future__ import annotations

import ast
import math
import random
import statistics

import pytest

from pools.simulator.roofline import SIGMA, CannotSimulate, Deviation, profile_of, speaks_chat
from pools.spec import ModelKind
from support.repository import ROOT, tree
from support.simulated import GPU, MODEL, SPEC
from support.values import replace

EXACT = Deviation()
ALLOWED = {"pools.wire.multipart", "pools.simulator", "pools.spec", "pricing.clock", "pricing.errors"}


def test_nothing_is_shared_with_what_it_is_held_against() -> None:
    """No module of the simulator imports the router's timing, memory, meter, quotes, rates or ledger."""
    imported = {
        node.module
        for path in (ROOT / "pools" / "simulator").glob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("pools", "pricing")
    }
    assert {module for module in imported if not module.startswith("pools.simulator")} <= ALLOWED


def test_one_token_costs_reading_the_weights_once() -> None:
    """4 G parameters of 16 bits over 600 GB/s at 70% are 19 ms, and 4 ms of overhead."""
    assert profile_of(SPEC, EXACT).step_us(1, 0, 0, 0) == pytest.approx(7.5 * 2**30 / (600e9 * 0.7) * 1e6 + 4000, abs=1)


def test_a_long_prefill_is_bound_by_compute() -> None:
    """2 FLOP a parameter and token, and attention that grows with the square of the prompt."""
    profile = profile_of(SPEC, EXACT)
    linear_us = 2 * 4e9 * 8192 / (125e12 * 0.5) * 1e6 + 4000
    assert profile.step_us(0, 0, 8192, 0) == pytest.approx(linear_us, rel=0.001)
    assert profile.step_us(0, 0, 8192, 8192 * 4096) > profile.step_us(0, 0, 8192, 0)


def test_under_load_a_mixture_of_experts_reads_nearly_all_of_them() -> None:
    """One token touches 8 of 128 experts, 32 tokens 87% of them."""
    sparse = replace(MODEL, params_b=30.0, active_params_b=3.0, experts=128, experts_active=8)
    profile = profile_of(replace(SPEC, model=replace(sparse, weights_gib={"bf16": 10.0})), EXACT)
    quiet = replace(profile, dense_s=0.0, overhead_s=0.0, compute_s=0.0)
    one, many, everything = (quiet.step_us(tokens, 0, 0, 0) for tokens in (1, 32, 4000))
    assert one / everything == pytest.approx(8 / 128, rel=0.01)
    assert many / everything == pytest.approx(0.873, rel=0.01)


def test_pools_deviate_by_the_stated_factor() -> None:
    """Factors are lognormal around 1 with σ 0.15, and follow from the seed."""
    rng = random.Random(3)
    logs = [math.log(Deviation.draw(rng).bandwidth) for _ in range(3000)]
    assert statistics.mean(logs) == pytest.approx(0, abs=0.02)
    assert statistics.stdev(logs) == pytest.approx(SIGMA, rel=0.1)
    assert Deviation.draw(random.Random(1)) == Deviation.draw(random.Random(1))


def test_boots_take_the_stated_time_or_that_of_their_weights() -> None:
    """A measured boot is taken as it is; otherwise 41 s and the weights at 1.5 GB/s; times the pool's factor."""
    assert profile_of(SPEC, EXACT).boot_s == 5.0
    assert profile_of(replace(SPEC, boot_s=None), EXACT).boot_s == pytest.approx(41 + 7.5 * 2**30 / 1.5e9)
    assert profile_of(SPEC, Deviation(boot=1.5)).boot_s == 7.5


def test_pools_that_could_not_run_are_refused() -> None:
    """Weights beyond memory, a format without weights, and media models: each with its reason."""
    with pytest.raises(CannotSimulate, match=r"weights 7\.5 GiB"):
        profile_of(replace(SPEC, gpu=replace(GPU, memory_gib=8.0)), EXACT)
    with pytest.raises(CannotSimulate, match="no weights as 'fp8'; known: bf16"):
        profile_of(replace(SPEC, quantization="fp8"), EXACT)
    images = replace(SPEC, model=replace(MODEL, kind=ModelKind.IMAGE))
    assert not speaks_chat(images)
    with pytest.raises(CannotSimulate, match="makes images"):
        profile_of(images, EXACT)
