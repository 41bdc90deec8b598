"""The frames of one streamed answer as they come over HTTP, with the timers that engines do not have."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from enum import Enum
from typing import Final

import aiohttp

from pools.failures.classes import AttemptFailed
from pools.failures.classify import (
    DRIVER_ERRORS,
    from_error_frame,
    from_exception,
    garbled,
    given_up,
    timed_out,
    unfinished,
    unread,
)
from pools.wire.backend import Frame, FrameKind, UpstreamRequest
from pools.wire.sse import FramePeek, SseParser, is_utf8, peek

# After `[DONE]` the end of the body follows at once; waiting for it keeps the connection for the next request.
# Seconds of real time, as the next one, since it is about a socket.
TAIL_S: Final = 0.25
# After the last finish reason an engine writes usage and `[DONE]` in the same breath; a busy one may need a moment.
LAST_WORDS_S: Final = 1.0

# Before its first word an answer may have frames that say nothing: a role, tokens that are held back because they could
# become a tool call or a stop string. More of them than any such answer has is no answer.
SILENT_FRAMES_AT_MOST: Final = 4096


class Expired(Enum):
    """Why the watchdog closed a response."""

    STALL = "stall"  # the pool brought the answer no further
    DEADLINE = "deadline"  # the reader waited for the pool when the time for the whole answer was over
    UNREAD = "unread"  # at that time, the pool waited for the reader


class Watchdog:
    """One timer for a whole stream. While the answer moves it costs nothing: it looks at the clock only when it rings.

    It closes the response when nothing brings the answer further for `stall_s`, or at `deadline`; `expired` then says
    why. Time that the reader lets pass is no stall. Instants and seconds are the event loop's.
    """

    def __init__(self, response: aiohttp.ClientResponse, stall_s: float, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._stall_s = stall_s
        self._deadline = deadline
        self._waiting_since: float | None = None
        self._waited_s = 0.0  # in vain, before that
        self._timer: asyncio.TimerHandle | None = None
        self.expired: Expired | None = None

    def start(self) -> None:
        self._ring_at(self._loop.time() + self._stall_s)

    def waiting(self) -> None:
        """The reader waits for a frame from now on, unless it did so already."""
        if self._waiting_since is None:
            self._waiting_since = self._loop.time()

    def moved(self) -> None:
        """A frame brought the answer further."""
        self._waiting_since = None
        self._waited_s = 0.0

    def idled(self) -> None:
        """A frame came that the reader gets, and that brought nothing: the time waited for it stays on the count."""
        if self._waiting_since is not None:
            self._waited_s += self._loop.time() - self._waiting_since
            self._waiting_since = None

    def complete(self) -> None:
        """The answer is there; what may still come is waited for a moment only."""
        self._stall_s = min(self._stall_s, LAST_WORDS_S)
        if self._timer is not None:
            self._timer.cancel()
            self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ring_at(self, stalls_at: float) -> None:
        self._timer = self._loop.call_at(min(stalls_at, self._deadline), self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        stalls_at = (now if self._waiting_since is None else self._waiting_since) + self._stall_s - self._waited_s
        if now < min(stalls_at, self._deadline):
            self._ring_at(stalls_at)
            return
        if now < self._deadline:
            self.expired = Expired.STALL
        else:
            self.expired = Expired.UNREAD if self._waiting_since is None else Expired.DEADLINE
        self._response.close()  # wakes the reader with an error


class HttpFrames:
    """A `FrameStream` over one response. `begin` must be awaited first; `aclose` must be called in the end."""

    def __init__(
        self, response: aiohttp.ClientResponse, request: UpstreamRequest, started: float, speedup: float
    ) -> None:
        self._response = response
        self._request = request
        self._parser = SseParser()
        self._ready: deque[Frame] = deque()
        self._failure: AttemptFailed | None = None  # raised once `_ready` is handed out
        self._ended = False
        self._choices: set[int] = set()
        self._finished: set[int] = set()
        self._begun = False  # a word, a finish reason or a counted token was seen
        self._spoke = False
        self._silent = 0  # frames before the first word
        self._tokens = 0  # that the engine says it has generated
        deadline = started + request.total_timeout_s / speedup
        self._watchdog = Watchdog(response, request.stall_timeout_s / speedup, deadline)

    async def begin(self) -> None:
        """Read up to the first frame that says that the engine generates. Raises AttemptFailed; the caller's timer
        bounds it.
        """
        while not self._begun:
            await self._read()
        self._watchdog.start()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        """The next data frame or `[DONE]`. Raises AttemptFailed."""
        while not self._ready:
            if self._ended and self._failure is None:
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close the upstream connection now; one whose answer is complete is kept for the next request."""
        try:
            if self._ended and self._failure is None and not self._response.content.at_eof():
                with contextlib.suppress(TimeoutError, *DRIVER_ERRORS):
                    async with asyncio.timeout(TAIL_S):
                        await self._response.content.readany()
        finally:
            self._close()

    def _close(self) -> None:
        self._watchdog.stop()
        self._response.close()

    @property
    def _complete(self) -> bool:
        """Every choice that was asked for, and every one that was begun, has its finish reason: whatever is lost from
        here on, the answer is whole.
        """
        return len(self._finished) >= self._request.choices and self._finished >= self._choices

    async def _read(self) -> None:
        """Take in one piece of the body. Raises the failure that was found before."""
        if self._failure is not None:
            self._close()
            raise self._failure
        self._watchdog.waiting()
        try:
            chunk = await self._response.content.readany()
        except DRIVER_ERRORS as error:
            self._broke(error)
        except asyncio.CancelledError:
            self._close()
            raise
        else:
            self._take_in(chunk)

    def _take_in(self, chunk: bytes) -> None:
        """What was good before a bad frame is handed out first."""
        try:
            if chunk:
                self._take(self._parser.feed(chunk))
            else:
                self._take_rest()
        except AttemptFailed as failure:
            self._failure = failure

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind is FrameKind.COMMENT:
                continue
            if frame.kind is FrameKind.DONE:
                self._end(frame)
                return
            if not is_utf8(frame.raw):
                raise garbled("sent a frame that is not UTF-8")
            seen = peek(frame.data)
            if seen.error is not None:
                if self._complete:
                    self._end(None)
                else:
                    self._failure = from_error_frame(frame.data)
                return
            if seen.finished and (reason := seen.given_up) is not None:
                self._failure = given_up(reason)
                return
            self._note(seen)
            self._ready.append(frame)

    def _note(self, seen: FramePeek) -> None:
        """What a good frame says of the answer. Raises AttemptFailed where too many say nothing."""
        self._choices.update(seen.seen)
        tokens = seen.completion_tokens or 0
        if seen.has_content or seen.finished or tokens > self._tokens:
            self._begun = True
            self._tokens = max(self._tokens, tokens)
            self._watchdog.moved()
        else:
            self._watchdog.idled()
        self._spoke = self._spoke or seen.has_content
        self._silent += not self._spoke
        if self._silent > SILENT_FRAMES_AT_MOST:
            raise garbled(f"sent {self._silent} frames without a word")
        if seen.finished:
            self._finished.update([index for index, _ in seen.finish_reasons])
            if self._complete:
                self._watchdog.complete()

    def _end(self, done: Frame | None) -> None:
        """Nothing follows. Without a finish reason that is a failure, and then `[DONE]` is not handed out."""
        self._watchdog.stop()
        self._ended = True
        if not self._complete:
            self._failure = unfinished(in_order=done is not None)
        elif done is not None:
            self._ready.append(done)

    def _take_rest(self) -> None:
        """The body has ended, maybe in the midst of a frame; one that only lacks its blank line is whole."""
        rest = self._parser.finish()
        if rest is not None and (rest.kind is FrameKind.DONE or (rest.kind is FrameKind.DATA and not self._complete)):
            self._take([Frame(rest.kind, b"data: " + rest.data + b"\n\n", rest.data)])
        if not self._ended and self._failure is None:
            self._end(None)

    def _broke(self, error: aiohttp.ClientError | OSError) -> None:
        """The connection failed, or the watchdog closed it. Where the answer was complete, that is its end."""
        request = self._request
        if self._complete:
            self._end(None)
        elif self._watchdog.expired is Expired.DEADLINE:
            limit_s, by_client = request.total_timeout_s, request.total_by_client
            self._failure = timed_out("end of the answer", limit_s, by_client_deadline=by_client)
        elif self._watchdog.expired is Expired.UNREAD:
            self._failure = unread(request.total_timeout_s)
        elif self._watchdog.expired is Expired.STALL:
            self._failure = timed_out("next token", request.stall_timeout_s, by_client_deadline=False)
        else:
            self._failure = from_exception(error)
