"""What runs beside requests: how it ends, and who hears of it."""

from __future__ import annotations

import asyncio

import pytest

from pricing.clock import ManualClock
from router.service.loops import Loops


def quiet(_: object) -> None:
    """Nobody listens."""


async def fails() -> None:
    raise LookupError("a fault of ours")


async def ends() -> None:
    return


async def test_a_loop_that_dies_is_named_and_its_trace_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks at health finds the name, whoever looks at the log finds why."""
    loops = Loops(ManualClock(), quiet)
    loops.run("tick", fails())
    loops.run("store", asyncio.sleep(1_000))
    await asyncio.sleep(0.001)
    assert loops.dead == ["tick"]
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    await loops.stop()


async def test_what_is_to_end_may(caplog: pytest.LogCaptureFixture) -> None:
    """Work that ends by itself makes nobody dead; where it fails, the log has it and the service goes on."""
    loops = Loops(ManualClock(), quiet)
    loops.once("past answers", ends())
    await asyncio.sleep(0.001)
    assert (loops.dead, caplog.records) == ([], [])
    loops.once("past answers", fails())
    await asyncio.sleep(0.001)
    assert (loops.dead, len(caplog.records)) == ([], 1)
    await loops.stop()


async def test_a_stop_ends_both(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing goes on, and an end that was asked for is no fault."""
    loops = Loops(ManualClock(), quiet)
    loops.run("store", asyncio.sleep(1_000))
    loops.once("past answers", asyncio.sleep(1_000))
    before = len(asyncio.all_tasks())
    await loops.stop()
    assert len(asyncio.all_tasks()) == before - 2
    assert caplog.records == []
