"""When the demo breaks which pool."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pricing.clock import ManualClock
from router.demo.control import Control
from router.demo.load import Outcome
from router.demo.mishaps import MISHAPS, Mishaps
from router.demo.plan import PlannedRequest
from router.demo.verdict import Judged, Verdict

PLANNED = PlannedRequest(1, 0.0, "acme", "chat", "economy", 50, 20, True, None)


class Recorder(Control):
    """A control plane that writes down what it is asked."""

    def __init__(self, alive: dict[str, int]) -> None:
        self.ordered: list[tuple[str, str]] = []
        self._alive = alive

    async def alive(self) -> dict[str, int]:
        return self._alive

    async def fail(self, pool: str, fault: Mapping[str, Any]) -> None:
        self.ordered.append((str(fault["kind"]), pool))


def answered_by(pool: str) -> Outcome:
    return Outcome(PLANNED, Judged(Verdict.SERVED), 200, pool, "A10", "economy", 1, 0.1, 1.0)


async def test_each_mishap_strikes_once_and_when_it_is_due() -> None:
    """Nothing before its share of the requests has left; then one after the other."""
    control = Recorder({"a": 1})
    mishaps = Mishaps(control, ManualClock(), total=100)
    striking = asyncio.create_task(mishaps.strike())
    for number in range(1, 101):
        mishaps.sent(PLANNED)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(control.ordered) == sum(number > round(mishap.share * 100) for mishap in MISHAPS)
    await striking
    assert [kind for kind, _ in control.ordered] == [mishap.fault["kind"] for mishap in MISHAPS]


async def test_pools_that_are_meant_are_hit_when_they_are_in_use() -> None:
    """Where all answered lately, each mishap hits the pool that it is for."""
    control = Recorder({})
    mishaps = Mishaps(control, ManualClock(), total=1)
    for pool in ("other", "other", *(mishap.pools[0] for mishap in MISHAPS)):
        mishaps.ended(answered_by(pool))
    mishaps.sent(PLANNED)
    await mishaps.strike()
    assert [pool for _, pool in control.ordered] == [mishap.pools[0] for mishap in MISHAPS]


async def test_another_policy_is_broken_where_it_is_busy() -> None:
    """Without any of the pools that are meant: the busiest first, then others."""
    control = Recorder({})
    mishaps = Mishaps(control, ManualClock(), total=1)
    for pool in ("a", "b", "b", "c", "c", "c"):
        mishaps.ended(answered_by(pool))
    mishaps.sent(PLANNED)
    await mishaps.strike()
    assert [pool for _, pool in control.ordered] == ["c", "b", "a"]


async def test_before_the_first_answer_a_pool_that_boots_is_hit() -> None:
    """With nothing alive either, there is nothing to break."""
    for alive, expected in (({"booting": 1}, ["booting"] * 3), ({}, [])):
        control = Recorder(alive)
        mishaps = Mishaps(control, ManualClock(), total=1)
        mishaps.sent(PLANNED)
        await mishaps.strike()
        assert [pool for _, pool in control.ordered] == expected
