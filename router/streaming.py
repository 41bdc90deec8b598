"""Relaying a stream: frames go down as they come, the last one with what the request cost.

The router always asks the engine for usage in every chunk, so that a stream that ends early can be priced and counted;
what the client did not ask for is taken out again. The frame after which the engine has nothing left to do (the usage
frame, or `[DONE]`) leaves the meter, which fixes the cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from pools.backend import Frame, FrameKind, FrameStream
from pools.failures import AttemptFailed, FailureClass
from pools.splice import without_fields
from pools.sse import FramePeek, peek
from pricing.ledger.rows import SchemaResult
from router.accounting import Attempt
from router.answers import with_cost
from router.inbound import Parsed
from router.output_check import EMPTY, StreamedText

# What routing asks of the engine beyond what the client did.
STREAM_OPTIONS: Final = b'{"include_usage":true,"continuous_usage_stats":true}'
DONE: Final = b"data: [DONE]\n\n"


class Relay:
    """One stream on its way to a client. `started` holds the frames seen before the first with content.

    Until then nothing has been sent, and a failure may still be answered by another pool.
    """

    def __init__(self, stream: FrameStream, parsed: Parsed, attempt: Attempt) -> None:
        self._stream = stream
        self._frames = aiter(stream)
        self._parsed = parsed
        self._attempt = attempt
        self._started: list[tuple[Frame, FramePeek]] = []
        self.bytes_sent = False
        self._text = None if parsed.json_schema is None else StreamedText(parsed, parsed.json_schema)

    async def first_content(self) -> None:
        """Read up to the first frame that says something. Raises AttemptFailed while moving on is still free, which
        includes an answer that ends without having said anything.
        """
        async for frame in self._frames:
            seen = peek(frame.data) if frame.kind is FrameKind.DATA else FramePeek()
            self._started.append((frame, seen))
            if self._is_empty(seen):
                raise AttemptFailed(FailureClass.BAD_OUTPUT, EMPTY)
            if seen.has_content or seen.finished or frame.kind is FrameKind.DONE:
                return

    def _is_empty(self, seen: FramePeek) -> bool:
        """The only answer ends by itself, and nothing was said before."""
        return not seen.has_content and self._parsed.choices == 1 and seen.finish_reasons == ((0, "stop"),)

    async def frames(self, leave_meter: Callable[[], int]) -> AsyncIterator[bytes]:
        """The bytes for the client, without `[DONE]`, which goes out once the money is written.

        Raises AttemptFailed when the stream breaks.
        """
        for frame, seen in self._started:
            if frame.kind is FrameKind.DATA and (out := self._shape(frame, seen, leave_meter)):
                yield out
        async for frame in self._frames:
            if frame.kind is FrameKind.DATA and (out := self._shape(frame, peek(frame.data), leave_meter)):
                yield out

    def _shape(self, frame: Frame, seen: FramePeek, leave_meter: Callable[[], int]) -> bytes | None:
        """One frame as the client gets it; None for one it did not ask for."""
        if self._text is not None:
            self._text.feed(frame.data)
        if seen.prompt_tokens is not None:
            self._attempt.prompt_tokens = seen.prompt_tokens
            self._attempt.completion_tokens = seen.completion_tokens
        if not seen.has_usage:
            return frame.raw
        if seen.choices_empty:
            charge = leave_meter()
            if not self._parsed.wants_usage:
                return None
            return b"data: " + with_cost(frame.data, charge) + b"\n\n"
        if self._parsed.wants_continuous_usage:
            return frame.raw
        return b"data: " + without_fields(frame.data, ("usage",)) + b"\n\n"

    def schema_result(self) -> SchemaResult | None:
        """How the complete answer kept to the schema that was asked for; None where none was."""
        return None if self._text is None else self._text.result()

    async def aclose(self) -> None:
        await self._stream.aclose()
