"""What a request would have been charged at its class's premium pool."""

from __future__ import annotations

import pytest

from pricing.clock import ManualClock
from router.serving.baseline import baseline_nusd
from support.chains import chain
from support.choosing import ladder, needs, rung

L4, L40S = rung("qwen3-vl-8b-fp8-l4"), rung("qwen3-vl-8b-bf16-l40s")
TWO = ladder(L4, L40S)  # the L40S is the premium pool


async def test_alone_it_is_the_premium_pool_s_time_at_its_whole_rate() -> None:
    """The model's seconds for the tokens that were counted, at one container's rate."""
    under_way = chain(ManualClock(), needs("chat", prompt=999), request_class=TWO)
    under_way.prompt_tokens, under_way.completion_tokens = 1_000, 200
    seconds = L40S.timing.estimate(1_000, 200, 0).total_s
    assert baseline_nusd(under_way) == pytest.approx(L40S.rate.nusd_per_h * seconds / 3_600, rel=1e-5)


async def test_neighbours_share_it() -> None:
    """As many others as fill one container make it cheaper a request, though each takes longer."""
    under_way = chain(ManualClock(), needs("chat"), request_class=TWO)
    under_way.prompt_tokens, under_way.completion_tokens = 1_000, 200
    alone = baseline_nusd(under_way)
    under_way.neighbours = L40S.pool.target_concurrency - 1
    together = baseline_nusd(under_way)
    assert alone is not None
    assert together is not None
    assert alone / L40S.pool.target_concurrency < together < alone
    under_way.neighbours += 1  # one more than the target: a second container, half as full
    more = baseline_nusd(under_way)
    assert more is not None
    assert more > together


async def test_without_counted_tokens_there_is_none() -> None:
    """A saving is not claimed for what nobody measured; an unknown prompt is taken as estimated."""
    under_way = chain(ManualClock(), needs("chat", prompt=1_000), request_class=TWO)
    assert baseline_nusd(under_way) is None
    under_way.completion_tokens = 200
    estimated = baseline_nusd(under_way)
    under_way.prompt_tokens = 1_000
    assert baseline_nusd(under_way) == estimated
