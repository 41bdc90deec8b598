"""One connection to Redis: what is sent in one turn of the event loop leaves as one write, replies come back in order.

A command costs a packed string, a future and its place in line; no task, no lock, no timer of its own. What was sent
and not answered when the connection ends has an unknown outcome: its callers hear so, and steps are written such that
they may be repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import hiredis

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.replies import RedisReplyError

Word = str | bytes | int
# Before the server is given up, the loop gets this long to read what may already lie in the socket: the silence may
# have been this process's own (a long computation, a suspended machine).
SECOND_LOOK_S: Final = 0.05
_NOT_YET: Final = object()


def bulk(word: Word) -> bytes:
    """A word as the protocol has it: its length, and itself."""
    data = word if isinstance(word, bytes) else str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


# A command without its reply: who waits for it, until when (the loop's time, that of the first in its write), and its
# bytes. A plain tuple, since a named one costs another 0.15 µs.
_Waiting: TypeAlias = tuple[asyncio.Future[Any], float, int]


class Connection(asyncio.Protocol):
    """`timeout_s` bounds the wait for each reply; when the oldest is overdue the connection is dropped, since replies
    have no names and come in order. `in_flight_bytes` bounds what may be unanswered. `on_lost` is called once, with the
    reason, when the connection ends unless `close` or `retire` ended it.
    """

    def __init__(
        self, node: RedisAddress, timeout_s: float, in_flight_bytes: int, on_lost: Callable[[Connection, str], None]
    ) -> None:
        self.node = node
        self._timeout_s = timeout_s
        self._bytes_at_most = in_flight_bytes
        self._on_lost: Callable[[Connection, str], None] | None = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._retiring = False
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET, replyError=self._note_error)
        self._error: RedisReplyError | None = None
        self._out: list[bytes] = []
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._until = 0.0  # when replies to what is not written yet are overdue
        self._watch: asyncio.TimerHandle | None = None
        self._suspect: _Waiting | None = None

    # What callers use

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._retiring

    def send(self, *words: Word) -> asyncio.Future[Any]:
        """The future reply: bytes, int, None, or a list of these. It ends with RedisReplyError where the reply, or a
        part of it, is an error, and with StoreUnavailable where no reply came. Cancelling it takes nothing back.

        Raises StoreUnavailable at once, with nothing sent, when not connected or too much is unanswered.
        """
        return self.send_packed(hiredis.pack_command(words))  # type: ignore[arg-type] # its stub knows one word only

    def send_packed(self, command: bytes) -> asyncio.Future[Any]:
        """Like `send`, for a command as the protocol has it."""
        if self._transport is None:
            raise StoreUnavailable(f"the connection to Redis at {self.node} has ended")
        size = len(command)
        if self._bytes + size > self._bytes_at_most:
            raise StoreUnavailable(
                f"Redis at {self.node} is behind: more than {self._bytes_at_most:,} bytes wait for its answers"
            )
        if not self._out:
            self._begin_write()
        self._out.append(command)
        self._bytes += size
        future = self._loop.create_future()
        self._waiting.append((future, self._until, size))
        return future

    def close(self, reason: str = "it was closed") -> None:
        """End now; who waits hears StoreUnavailable."""
        self._on_lost = None
        self._end(reason)

    def retire(self) -> None:
        """End as soon as all that was sent is answered."""
        self._on_lost = None
        self._retiring = True
        if not self._waiting:
            self._end("it was retired")

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_YET:
                if not self._answer(reply):
                    return
        except hiredis.ProtocolError:
            self._end("what answers there does not speak Redis's protocol; check host and port in SLUICE_REDIS_URL")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the server closed the connection" if exc is None else f"the connection broke ({exc})")

    def _answer(self, reply: Any) -> bool:
        """Hand a reply to who waits for it; False when that was the connection's end."""
        error, self._error = self._error, None
        if not self._waiting:  # "-ERR max number of clients reached" and "-DENIED …" come unasked, and then the end
            self._end(f"it refuses the connection ({error})" if error else "it sent a reply that nobody had asked for")
            return False
        future, _, size = self._waiting.popleft()
        self._bytes -= size
        if not future.done():  # who was cancelled leaves the place in line behind
            if error is None:
                future.set_result(reply)
            else:
                future.set_exception(error)
        if self._retiring and not self._waiting:
            self._end("it was retired")
            return False
        return True

    def _note_error(self, line: str) -> RedisReplyError:
        """hiredis calls it for every error in a reply, however deep; the first one stands for the reply."""
        error = RedisReplyError(line)
        self._error = self._error or error
        return error

    def _begin_write(self) -> None:
        """All that is sent until the loop turns leaves together, and is to be answered within one time."""
        self._loop.call_soon(self._flush)
        self._until = self._loop.time() + self._timeout_s
        if self._watch is None:
            self._watch = self._loop.call_at(self._until, self._look)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _look(self) -> None:
        """Is the oldest reply overdue? One timer for all of them, set to when the oldest will be."""
        self._watch = None
        if not self._waiting:
            return
        oldest = self._waiting[0]
        until = oldest[1]
        if until > self._loop.time():
            self._watch = self._loop.call_at(until, self._look)
        elif oldest is self._suspect:
            self._end(f"no answer within {self._timeout_s:g} s")
        else:
            self._suspect = oldest
            self._watch = self._loop.call_later(SECOND_LOOK_S, self._look)

    def _end(self, reason: str) -> None:
        """Close, and tell all who wait; the second time there is nothing left to do."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        waiting, self._waiting = self._waiting, deque()
        self._bytes = 0
        for future, _, _ in waiting:
            if not future.done():
                future.set_exception(
                    StoreUnavailable(f"Redis at {self.node}: {reason}; whether the step was done is not known")
                )
        if self._on_lost is not None:
            self._on_lost(self, reason)
