"""Two mock pools for one gateway: one that fails in a chosen way, one that is well and notes when it is asked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, cast

import httptools

from upstream import STREAM_HEAD, TOKEN, Connection

WORDS_AHEAD_S: Final = 0.02  # by then the words of a stream have reached the client, before it is cut
ERROR: Final = b'{"error":{"message":"Internal server error","type":"InternalServerError","param":null,"code":500}}'
ANSWER_500: Final = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ERROR)
    + ERROR
)


class How(StrEnum):
    """The ways in which a pool fails."""

    REFUSES = "refuses connections"
    ANSWERS_500 = "answers 500"
    CLOSES = "closes without an answer"
    CUTS = "cuts a stream after words"


@dataclass(slots=True)
class Seen:
    """Instants in nanoseconds of one clock: when the one pool failed, and when a request reached the other."""

    failed: list[int] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)


class Failing(asyncio.Protocol):
    """One connection to the pool that fails. One that refuses connections does not listen."""

    def __init__(self, how: How, seen: Seen) -> None:
        self._how = how
        self._seen = seen
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._how is How.CUTS:
            self._transport.write(STREAM_HEAD + TOKEN + TOKEN)
            asyncio.get_running_loop().call_later(WORDS_AHEAD_S, self._close)
        elif self._how is How.CLOSES:
            self._close()
        else:
            self._seen.failed.append(time.perf_counter_ns())
            self._transport.write(ANSWER_500)

    def _close(self) -> None:
        self._seen.failed.append(time.perf_counter_ns())
        self._transport.close()


class Well(Connection):
    """One connection to the pool that is well."""

    def __init__(self, pace_s: float, chunks: int, seen: Seen) -> None:
        super().__init__(pace_s, chunks)
        self._seen = seen

    def on_message_begin(self) -> None:
        self._seen.arrived.append(time.perf_counter_ns())
        super().on_message_begin()


class Mortal(Connection):
    """One connection to a pool that is well until it dies with all its connections."""

    def __init__(self, pace_s: float, chunks: int, alive: set[Mortal]) -> None:
        super().__init__(pace_s, chunks)
        self._alive = alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._alive.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)

    def die(self) -> None:
        self._transport.abort()
