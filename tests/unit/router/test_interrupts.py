"""Interruptions end a wait and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from router.interrupts import Cause, Interrupted, Interrupts


async def serve(log: list[str], started: asyncio.Event, made: asyncio.Future[Interrupts]) -> Cause:
    interrupts = Interrupts()
    made.set_result(interrupts)
    try:
        with interrupts.armed():
            started.set()
            await asyncio.sleep(60)
    except Interrupted as stop:
        await asyncio.sleep(0)
        log.append("settled")
        return stop.cause
    raise AssertionError("the wait was not ended")


async def test_an_interruption_ends_an_armed_wait_and_the_task_goes_on() -> None:
    """What follows the wait, the settlement, runs to its end although the task was cancelled inside."""
    log: list[str] = []
    started, made = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(log, started, made))
    await started.wait()
    made.result().interrupt(Cause.CLIENT_GONE)
    assert await task is Cause.CLIENT_GONE
    assert log == ["settled"]
    assert task.cancelling() == 0


async def test_an_interruption_outside_a_wait_is_kept_until_the_next_one() -> None:
    """Money that is being written is not cut in two."""
    interrupts = Interrupts()
    interrupts.interrupt(Cause.CUT)
    await asyncio.sleep(0)
    with pytest.raises(Interrupted) as caught, interrupts.armed():
        pytest.fail("the body must not run")
    assert caught.value.cause is Cause.CUT


async def test_the_first_cause_wins() -> None:
    """A client that leaves a request that was just cut does not change why it ended."""
    interrupts = Interrupts()
    interrupts.interrupt(Cause.CUT)
    interrupts.interrupt(Cause.CLIENT_GONE)
    assert interrupts.cause is Cause.CUT


async def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    """The server's own cancel is not mistaken for an interruption."""

    async def wait() -> None:
        with Interrupts().armed():
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
