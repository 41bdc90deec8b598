"""The relay of one stream: what reaches the client, and when the meter stops."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.backend import Frame
from pricing.clock import ManualClock
from router.output.streaming import AsItCame, Relay
from support.chains import attempt, candidate, chain
from support.choosing import needs
from support.manual_endpoint import data_frame
from support.scripted_server import DONE, ROLE, frame, text_frame

USAGE = frame(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2})
CHARGE = 1_500


class Played:
    """A stream of given frames; a failure is raised."""

    def __init__(self, *frames: bytes | AttemptFailed) -> None:
        self._frames = frames
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Frame]:
        for one in self._frames:
            if isinstance(one, AttemptFailed):
                raise one
            yield data_frame(one)

    async def aclose(self) -> None:
        self.closed = True


class Meter:
    """Notes how often it was left."""

    def __init__(self) -> None:
        self.left = 0

    async def leave(self) -> int:
        self.left += 1
        return CHARGE


async def relayed(*frames: bytes | AttemptFailed, **body: Any) -> tuple[bytes, Meter, Any]:
    """The bytes for a client that asked in this way, the meter, and the attempt."""
    under_way = chain(ManualClock(), needs("chat"), stream=True, **body)
    tried = attempt(under_way, candidate(needs("chat")))
    relay = Relay(Played(*frames), AsItCame(under_way.parsed, tried, None))
    meter = Meter()
    await relay.first_content()
    return b"".join([piece async for piece in relay.frames(meter.leave)]), meter, tried


async def test_the_meter_stops_with_the_usage_frame() -> None:
    """It says that the engine has nothing left to do; its tokens are noted, and it is not for who did not ask."""
    got, meter, tried = await relayed(ROLE, text_frame("hi"), text_frame("", "stop"), USAGE, DONE)
    assert got == ROLE + text_frame("hi") + text_frame("", "stop")
    assert meter.left == 1
    assert (tried.prompt_tokens, tried.completion_tokens) == (3, 2)


async def test_the_cost_goes_into_the_usage_frame() -> None:
    """Dollars as a number, beside the engine's own counts."""
    got, _, _ = await relayed(ROLE, text_frame("hi", "stop"), USAGE, DONE, stream_options={"include_usage": True})
    last = json.loads(got.split(b"data: ")[-1])
    assert last["usage"] == {"cost": CHARGE / 10**9, "prompt_tokens": 3, "completion_tokens": 2}


async def test_done_is_left_to_who_writes_the_money() -> None:
    """A stream that is over is not said to be before its settlement is on disk."""
    got, meter, _ = await relayed(ROLE, text_frame("hi", "stop"), DONE)
    assert b"[DONE]" not in got
    assert meter.left == 0  # nothing told the relay that the engine is done; closing the attempt will


@pytest.mark.parametrize("first", [ROLE, frame(choices=[]), frame(choices=[], usage={"prompt_tokens": 3})])
async def test_nothing_is_sent_before_something_is_said(first: bytes) -> None:
    """A failure until then may still be answered by another pool."""
    under_way = chain(ManualClock(), needs("chat"), stream=True)
    tried = attempt(under_way, candidate(needs("chat")))
    failure = AttemptFailed(FailureClass.UNAVAILABLE, "died")
    with pytest.raises(AttemptFailed) as raised:
        await Relay(Played(first, failure), AsItCame(under_way.parsed, tried, None)).first_content()
    assert raised.value is failure


@pytest.mark.parametrize(
    ("asked", "reason", "empty"),
    [
        ({}, "stop", True),
        ({"max_tokens": 5}, "stop", True),
        ({"max_tokens": 5}, "length", False),
        ({}, "length", True),  # at the end of the engine's own bound, with nothing said
        ({}, "tool_calls", False),
        ({"n": 2}, "stop", False),
    ],
)
async def test_an_end_without_a_word_is_no_answer(asked: dict[str, int], reason: str, empty: bool) -> None:
    """Unless the client's own bound ended it, or another of its answers may still speak."""
    under_way = chain(ManualClock(), needs("chat"), stream=True, **asked)
    tried = attempt(under_way, candidate(needs("chat")))
    relay = Relay(Played(ROLE, text_frame("", reason), DONE), AsItCame(under_way.parsed, tried, None))
    if empty:
        with pytest.raises(AttemptFailed, match="empty"):
            await relay.first_content()
    else:
        await relay.first_content()


async def test_a_break_comes_after_what_was_good() -> None:
    """Frames before the failure go out, then it is raised."""
    under_way = chain(ManualClock(), needs("chat"), stream=True)
    tried = attempt(under_way, candidate(needs("chat")))
    stream = Played(ROLE, text_frame("he"), text_frame("ll"), AttemptFailed(FailureClass.UNAVAILABLE, "died"))
    relay = Relay(stream, AsItCame(under_way.parsed, tried, None))
    await relay.first_content()
    pieces = relay.frames(Meter().leave)
    got = [await anext(pieces), await anext(pieces), await anext(pieces)]
    with pytest.raises(AttemptFailed):
        await anext(pieces)
    assert got == [ROLE, text_frame("he"), text_frame("ll")]
    await relay.aclose()
    assert stream.closed
