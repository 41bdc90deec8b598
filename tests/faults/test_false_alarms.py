"""Caps that leave honest traffic alone: at twice what a tenant truly spends, nobody is refused, cut or slowed down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.endpoint import Policy, Reply, before_simulated, events, one_pool

MEAN_LOG, SPREAD_LOG = 4.0, 1.0  # of output tokens: a median of 55, a mean of 90, a tenth above 195


def files(cap_usd: str = "unlimited") -> Policy:
    """One pool that takes two hundred at once, and the tenant's cap."""
    found = one_pool()
    found["pools"]["small"] |= {"max_concurrency": 256, "target_concurrency": 200, "max_containers": 2}
    found["tenants"]["acme"]["caps"] = [{"name": "day", "amount_usd": cap_usd, "window": "24h"}]
    return found


def lengths(count: int) -> list[int]:
    """Output tokens of answers, as skewed as those of people's chats."""
    drawn = random.Random(5)
    return [max(2, min(900, int(drawn.lognormvariate(MEAN_LOG, SPREAD_LOG)))) for _ in range(count)]


async def traffic(
    folder: Path, cap: Policy, tokens: Sequence[int], at_once: int, speedup: float
) -> tuple[int, list[Reply]]:
    """One request for each answer, so many at once, every second streamed: what its tenant spent, and the replies."""
    async with before_simulated(folder, cap, speedup=speedup, awake=("small",)) as endpoint:
        gate = asyncio.Semaphore(at_once)

        async def one(number: int, output: int) -> Reply:
            async with gate:
                return await endpoint.chat(max_tokens=1_000, sim_output_tokens=output, stream=number % 2 == 1)

        replies = await asyncio.gather(*(one(number, output) for number, output in enumerate(tokens)))
        await endpoint.settled()
        return endpoint.charged_nusd(), replies


def went_wrong(reply: Reply) -> bool:
    """Refused, cut, or otherwise not a whole answer."""
    streamed = reply.headers["content-type"].startswith("text/event-stream")
    return reply.status != 200 or (streamed and bool(events(reply.body)[-1] != "[DONE]"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """For the endpoint without a cap and the one with it."""
    both = (tmp_path / "free", tmp_path / "capped")
    for folder in both:
        folder.mkdir()
    return both


@pytest.mark.parametrize(("at_once", "count", "speedup"), [(1, 20, 40), (20, 150, 20), (200, 300, 10)])
async def test_a_cap_of_twice_the_spend_refuses_nobody(
    folders: tuple[Path, Path], at_once: int, count: int, speedup: float
) -> None:
    """The worst case of two hundred answers at once is many times the cap; what is held for them is not."""
    tokens = lengths(count)
    spent_nusd, free = await traffic(folders[0], files(), tokens, at_once, speedup)
    assert not [reply for reply in free if went_wrong(reply)]
    twice = files(f"{2 * spent_nusd / 10**9:.9f}")
    _, capped = await traffic(folders[1], twice, tokens, at_once, speedup)
    assert not [reply.body for reply in capped if went_wrong(reply)]


async def test_a_cap_of_half_the_spend_does_bite(folders: tuple[Path, Path]) -> None:
    """The same traffic meets a cap that is too small, so that the silence above is no accident."""
    tokens = lengths(60)
    spent_nusd, _ = await traffic(folders[0], files(), tokens, 20, 20)
    half = files(f"{spent_nusd / 2 / 10**9:.9f}")
    used_nusd, capped = await traffic(folders[1], half, tokens, 20, 20)
    assert [reply for reply in capped if went_wrong(reply)]
    assert used_nusd <= spent_nusd // 2
