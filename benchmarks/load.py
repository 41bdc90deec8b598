"""Load on one HTTP server on this machine, from raw sockets: what it costs to ask should not drown what is asked.

`clients` connections each send the same request, wait for the whole answer, and send again until the time is up: at
once, or at a pace, by which a request that had to wait for the one before it counts from when it was due.
Nothing is sent to another machine, and every run ends: after `seconds` plus at most `GRACE_S`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Final, cast

import httptools

GRACE_S: Final = 30.0
_NS_PER_US: Final = 1000


class LoadError(RuntimeError):
    """The server answered wrongly; the message has the first wrong answer."""


@dataclass(slots=True)
class Tally:
    """What came back. Latencies in microseconds; `events` are server-sent events, `[DONE]` included."""

    seconds: float = 0.0
    latencies_us: list[float] = field(default_factory=list)
    first_byte_us: list[float] = field(default_factory=list)
    events: int = 0
    unfinished: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def answers(self) -> int:
        return len(self.latencies_us)

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds if self.seconds else 0.0

    @property
    def p50_us(self) -> float:
        return statistics.median(self.latencies_us) if self.latencies_us else float("nan")

    @property
    def first_byte_p50_us(self) -> float:
        return statistics.median(self.first_byte_us) if self.first_byte_us else float("nan")


@dataclass(frozen=True, slots=True)
class Target:
    """One request, ready to send. `path` begins with a slash; `key` goes into Authorization."""

    port: int
    path: str
    body: bytes
    key: str = ""

    def encoded(self) -> bytes:
        authorization = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        return (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n{authorization}"
            f"content-type: application/json\r\ncontent-length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body


class _Client(asyncio.Protocol):
    """One connection that repeats one request until `until_ns`; `done` is set when it has closed."""

    def __init__(self, request: bytes, tally: Tally, until_ns: int, streamed: bool, pace_s: float) -> None:
        self._request = request
        self._pace_ns = round(pace_s * 1e9)
        self._tally = tally
        self._until_ns = until_ns
        self._streamed = streamed
        self._parser = httptools.HttpResponseParser(self)
        self._sent_ns = 0
        self._due_ns = 0
        self._first_ns = 0
        self._tail = b""
        self._transport: asyncio.Transport
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(time.perf_counter_ns())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sent_ns:
            self._tally.unfinished += 1
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def _send(self, due_ns: int) -> None:
        self._first_ns = 0
        self._tail = b""
        self._due_ns = self._sent_ns = due_ns
        self._transport.write(self._request)

    def on_body(self, body: bytes) -> None:
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()
        if self._streamed:
            # An event ends with an empty line, which may be split between two reads.
            self._tally.events += (self._tail[-1:] + body).count(b"\n\n")
        self._tail = (self._tail + body)[-200:]

    def on_message_complete(self) -> None:
        now_ns = time.perf_counter_ns()
        status = self._parser.get_status_code()
        if status != 200 or (self._streamed and b"[DONE]" not in self._tail):
            self._tally.wrong.append(f"{status}: {self._tail.decode(errors='replace')}")
        else:
            self._tally.latencies_us.append((now_ns - self._sent_ns) / _NS_PER_US)
            self._tally.first_byte_us.append((self._first_ns - self._sent_ns) / _NS_PER_US)
        self._sent_ns = 0
        due_ns = self._due_ns + self._pace_ns if self._pace_ns else now_ns
        if max(now_ns, due_ns) >= self._until_ns or self._tally.wrong:
            self._transport.close()
        elif due_ns <= now_ns:
            self._send(due_ns)
        else:
            asyncio.get_running_loop().call_later((due_ns - now_ns) / 1e9, self._send, due_ns)


async def run(target: Target, *, clients: int, seconds: float, streamed: bool = False, pace_s: float = 0.0) -> Tally:
    """Load a server. Raises LoadError at the first wrong answer, OSError when it does not accept connections.

    `pace_s` is the time between two requests of one client; 0: each follows the answer to the one before.
    """
    tally = await tallied(target, clients=clients, seconds=seconds, streamed=streamed, pace_s=pace_s)
    if tally.wrong:
        raise LoadError(f"{len(tally.wrong)} wrong answers, the first: {tally.wrong[0]}")
    return tally


async def tallied(
    target: Target, *, clients: int, seconds: float, streamed: bool = False, pace_s: float = 0.0
) -> Tally:
    """Load a server and count wrong answers, too; after the first, nothing more is asked. Raises OSError."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    request = target.encoded()
    begun_ns = time.perf_counter_ns()
    until_ns = begun_ns + round(seconds * 1e9)
    connected: list[_Client] = []
    for _ in range(clients):
        _, client = await loop.create_connection(
            lambda: _Client(request, tally, until_ns, streamed, pace_s), "127.0.0.1", target.port
        )
        connected.append(client)
        if streamed or pace_s:  # streams that begin together would send every chunk of all of them in the same instant
            await asyncio.sleep((pace_s or 0.5) / clients)
    await asyncio.wait([client.done for client in connected], timeout=seconds + GRACE_S)
    tally.seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    tally.unfinished += sum(not client.done.done() for client in connected)
    return tally
