"""Relaying a stream: frames go down as they come, the last one with what the request cost.

The router always asks the engine for usage in every chunk, so that a stream that ends early can be priced and counted;
what the client did not ask for is taken out again. The frame after which the engine has nothing left to do (the usage
frame, or `[DONE]`) leaves the meter, which fixes the cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.backend import Frame, FrameKind, FrameStream
from pools.wire.chunk import chunk_of
from pools.wire.splice import without_fields
from pools.wire.sse import FramePeek, peek
from router.inbound.request import Parsed
from router.money.accounting import Attempt
from router.money.charging import tokens_said
from router.output.answers import with_cost
from router.output.check import EMPTY, StreamedText, is_cut
from router.output.transcript import Transcript

# What routing asks of the engine beyond what the client did.
STREAM_OPTIONS: Final = b'{"include_usage":true,"continuous_usage_stats":true}'
API_STREAM_OPTIONS: Final = b'{"include_usage":true}'  # what every OpenAI-compatible API knows; others refuse more
DONE: Final = b"data: [DONE]\n\n"

LeaveMeter = Callable[[], Awaitable[int]]
"""Fixes what the request costs, once the engine has nothing left to do for it: nano-dollars."""


class Priced:
    """A frame that ends the engine's work: `frame` makes its bytes of what the request costs, nano-dollars."""

    __slots__ = ("frame",)

    def __init__(self, frame: Callable[[int], bytes]) -> None:
        self.frame = frame


Shaped = bytes | Priced | None


class Shape(Protocol):
    """What a stream's frames become on their way down."""

    def may_end_empty(self, finish_reason: str) -> bool:
        """Whether the stream may end so without having said anything."""
        ...

    def is_complete(self) -> bool:
        """Whether the answer is whole, so that whatever the engine still sends is not wanted."""
        ...

    def shape(self, frame: Frame, seen: FramePeek) -> Shaped:
        """One frame as the client gets it; None, or no bytes, for one it did not ask for. The frame after which the
        engine has nothing left to do is `Priced`: the meter is left before it goes out.
        """
        ...

    def ended(self) -> None:
        """The stream came to a good end."""
        ...


class Outgoing(Protocol):
    """What is left of an answer, as frames for the client."""

    def frames(self, leave_meter: LeaveMeter) -> AsyncIterator[bytes]:
        """Without `[DONE]`, which goes out once the money is written. Raises AttemptFailed when the stream breaks."""
        ...

    async def aclose(self) -> None: ...


class Relay:
    """One stream on its way to a client. `started` holds the frames seen before the first with content.

    Until then nothing has been sent, and a failure may still be answered by another pool.
    """

    def __init__(self, stream: FrameStream, shape: Shape) -> None:
        self._stream = stream
        self._frames = aiter(stream)
        self._shape = shape
        self._started: list[tuple[Frame, FramePeek]] = []

    async def first_content(self) -> None:
        """Read up to the first frame that says something. Raises AttemptFailed while moving on is still free, which
        includes an answer that ends without having said anything.
        """
        async for frame in self._frames:
            seen = peek(frame.data) if frame.kind is FrameKind.DATA else FramePeek()
            self._started.append((frame, seen))
            silent = not seen.has_content and len(seen.finish_reasons) == 1
            if silent and not self._shape.may_end_empty(seen.finish_reasons[0][1]):
                raise AttemptFailed(FailureClass.BAD_OUTPUT, EMPTY)
            if seen.has_content or seen.finished or frame.kind is FrameKind.DONE:
                return

    async def frames(self, leave_meter: LeaveMeter) -> AsyncIterator[bytes]:
        """The bytes for the client, see `Outgoing`."""
        shape = self._shape
        for frame, seen in self._started:
            if frame.kind is FrameKind.DATA:
                out = shape.shape(frame, seen)
                if isinstance(out, Priced):
                    out = out.frame(await leave_meter())
                if out:
                    yield out
        if not shape.is_complete():
            async for frame in self._frames:
                if frame.kind is FrameKind.DATA:
                    out = shape.shape(frame, peek(frame.data))
                    if isinstance(out, Priced):
                        out = out.frame(await leave_meter())
                    if out:
                        yield out
                if shape.is_complete():
                    break
        shape.ended()

    async def aclose(self) -> None:
        await self._stream.aclose()


class AsItCame:
    """The shape of a stream from one pool: its own bytes, without what only the router asked for.

    What it says is written into `transcript`, where another pool could go on with it.
    """

    def __init__(self, parsed: Parsed, attempt: Attempt, transcript: Transcript | None) -> None:
        self._parsed = parsed
        self._attempt = attempt
        self._transcript = transcript
        self._text = None if parsed.json_schema is None else StreamedText(parsed, parsed.json_schema)
        self._by_tokens = attempt.rate.tokens is not None

    def may_end_empty(self, finish_reason: str) -> bool:
        """As of a whole answer (`check.checked`); another choice of several may still speak."""
        if self._parsed.choices > 1 or finish_reason not in ("stop", "length"):
            return True
        return is_cut(self._parsed, finish_reason)

    def shape(self, frame: Frame, seen: FramePeek) -> Shaped:
        """One frame as the client gets it; None for one it did not ask for."""
        if self._text is not None:
            self._text.feed(frame.data)
        if seen.prompt_tokens is not None:
            self._attempt.prompt_tokens = seen.prompt_tokens
            self._attempt.completion_tokens = seen.completion_tokens
            self._attempt.cached_tokens = seen.cached_tokens
        if seen.choices_empty and seen.has_usage:
            return Priced(partial(self._usage, frame.data))
        if self._by_tokens:
            if seen.has_content:
                self._attempt.produced_tokens += tokens_said(chunk_of(frame.data).text)
            if seen.has_usage and seen.finished and self._parsed.wants_usage:
                return Priced(partial(self._usage, frame.data))  # some APIs put it into the last chunk of the answer
        unasked = seen.has_usage and not self._parsed.wants_continuous_usage
        data = frame.data
        if self._transcript is not None:
            chunk = chunk_of(data)
            self._transcript.note(chunk, data)
            data = data if self._parsed.wants_token_ids else chunk.without_ids(data)
            data = chunk.without_usage(data) if unasked else data
        elif unasked:
            data = without_fields(data, ("usage",))
        return frame.raw if data is frame.data else b"data: " + data + b"\n\n"

    def _usage(self, data: bytes, charge_nusd: int) -> bytes:
        return b"data: " + with_cost(data, charge_nusd) + b"\n\n" if self._parsed.wants_usage else b""

    def is_complete(self) -> bool:
        """The engine itself says when it is."""
        return False

    def ended(self) -> None:
        """Note how the complete answer kept to the schema that was asked for."""
        if self._text is not None:
            self._attempt.schema_result = self._text.result()
