"""Server-sent events: bytes in as they arrive, frames out; and a quick look into a chunk of a chat stream.

Lines end with `\\n` or `\\r\\n`; a lone `\\r`, which the standard also allows and no engine sends, ends none.
Every byte belongs to exactly one frame, so relaying `raw` relays the stream as it came.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from pools.failures.classify import GIVEN_UP, garbled
from pools.failures.engine_error import EngineError, parse_error
from pools.wire.backend import Frame, FrameKind

# The first chunk of a stream that was asked for token ids lists the prompt's: 262,144 of them are below 2 MiB.
MAX_FRAME_BYTES: Final = 8 * 2**20

# Ten times the longest context that any engine offers; a `usage` with more, or below zero, counts nothing.
MOST_TOKENS: Final = 100_000_000

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_NOTHING: Final = msgspec.Raw(b"")
_EMPTY_VALUES: Final = frozenset({b"null", b'""', b"[]"})


class SseParser:
    """Cuts one stream into frames. Not shared between streams."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._rest = bytearray()  # the frame that is still open
        self._searched = 0  # of `_rest`, known to hold no blank line

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that this chunk completes. Raises AttemptFailed for a frame that grows past the bound."""
        if not self._rest and _is_one_frame(chunk):
            return [_frame(chunk)]
        if self._rest:
            self._rest += chunk
            frames, end = _cut(bytes(self._rest), self._searched) if b"\n" in chunk else ([], 0)
            del self._rest[:end]
        else:
            frames, end = _cut(chunk, 0)
            self._rest += chunk[end:] if end else chunk
        self._searched = max(0, len(self._rest) - 2)
        if len(self._rest) > self._max:
            raise garbled(f"sent a frame larger than {self._max} bytes")
        return frames

    def finish(self) -> Frame | None:
        """What is left when the stream has ended: a last frame without its blank line, or nothing."""
        rest, self._rest = bytes(self._rest), bytearray()
        self._searched = 0
        return _frame(rest) if rest else None


def _is_one_frame(chunk: bytes) -> bool:
    """True for one whole frame as engines write it, which is what most reads bring."""
    return chunk.startswith(b"data:") and chunk.find(b"\n\n") == len(chunk) - 2 and b"\r" not in chunk


def _cut(buffer: bytes, searched: int) -> tuple[list[Frame], int]:
    """Every complete frame of the buffer, and where the open one begins."""
    frames: list[Frame] = []
    start = 0
    with_cr = b"\r" in buffer
    while True:
        if buffer.startswith((b"\n", b"\r\n"), start):  # a blank line of its own
            end = buffer.index(b"\n", start) + 1
        else:
            end = _after_blank_line(buffer, max(start, searched), with_cr)
        if end < 0:
            return frames, start
        frames.append(_frame(buffer[start:end]))
        start = end


def _after_blank_line(buffer: bytes, start: int, with_cr: bool) -> int:
    """The index after the next blank line, -1 where there is none yet."""
    if with_cr:
        found = _BLANK_LINE.search(buffer, start)
        return found.end() if found else -1
    at = buffer.find(b"\n\n", start)
    return at + 2 if at >= 0 else -1


def _frame(raw: bytes) -> Frame:
    if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and raw.endswith(b"\n\n"):
        data = raw[6:-2].removesuffix(b"\r")  # one line, as engines send it
    else:
        data = _joined_data(raw)
    if data == b"[DONE]":
        return Frame(FrameKind.DONE, raw, data)
    return Frame(FrameKind.DATA if data else FrameKind.COMMENT, raw, data)


def _joined_data(raw: bytes) -> bytes:
    """The `data` lines of an event joined by newlines; empty for one of comments or other fields only."""
    lines = (line.removesuffix(b"\r") for line in raw.split(b"\n"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def is_utf8(data: bytes) -> bool:
    """Whether clients can decode it. Text without other than ASCII, as most chunks, costs next to nothing."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class FramePeek(msgspec.Struct, frozen=True, gc=False):
    """What a chunk, or a whole answer, says about the stream, without its text.

    `seen` are the indexes of its choices, `finish_reasons` the reasons by index of those that end with it.
    `has_content` is True for text, reasoning or a tool call that is not empty; the first chunk brings the role alone.
    Token counts are those of `usage`, None where the chunk has none that can be true; `cached_tokens` are those of the
    prompt that a cache had, 0 where it does not say.
    """

    error: EngineError | None = None
    seen: tuple[int, ...] = ()
    finish_reasons: tuple[tuple[int, str], ...] = ()
    has_role: bool = False
    has_content: bool = False
    has_tool_calls: bool = False
    has_usage: bool = False
    choices_empty: bool = True
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0

    @property
    def finished(self) -> bool:
        return bool(self.finish_reasons)

    @property
    def given_up(self) -> str | None:
        """The finish reason by which the engine says that an answer is not complete; None where there is none."""
        return next((reason for _, reason in self.finish_reasons if reason in GIVEN_UP), None)


class _Delta(msgspec.Struct, gc=False):
    role: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING
    reasoning: msgspec.Raw = _NOTHING
    reasoning_content: msgspec.Raw = _NOTHING  # vLLM up to 0.11
    tool_calls: msgspec.Raw = _NOTHING
    function_call: msgspec.Raw = _NOTHING
    refusal: msgspec.Raw = _NOTHING


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: msgspec.Raw = _NOTHING
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = _NOTHING
    object: str | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)


def peek(data: bytes) -> FramePeek:
    """Look into one frame's data or one whole answer. Raises AttemptFailed where it is no JSON that engines send."""
    try:
        chunk = _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise garbled("sent a frame that is not a chunk of an answer") from None
    if chunk.object == "error" or _says(chunk.error):
        return FramePeek(error=parse_error(data) or EngineError(""))
    role = content = calls = False
    seen: list[int] = []
    reasons: list[tuple[int, str]] = []
    for choice in chunk.choices or ():
        seen.append(choice.index)
        if choice.finish_reason:
            reasons.append((choice.index, choice.finish_reason))
        part = choice.delta or choice.message
        if part is None:
            content = content or _says(choice.text)
        else:
            role = role or _says(part.role)
            calls = calls or _says(part.tool_calls) or _says(part.function_call)
            content = content or calls or _speaks(part)
    usage = chunk.usage
    details = None if usage is None else usage.prompt_tokens_details
    return FramePeek(
        seen=tuple(seen),
        finish_reasons=tuple(reasons),
        has_role=role,
        has_content=content,
        has_tool_calls=calls,
        has_usage=usage is not None,
        choices_empty=not seen,
        prompt_tokens=_count(usage.prompt_tokens) if usage else None,
        completion_tokens=_count(usage.completion_tokens) if usage else None,
        cached_tokens=0 if details is None else _count(details.cached_tokens) or 0,
    )


def _count(tokens: int | None) -> int | None:
    return tokens if tokens is not None and 0 <= tokens <= MOST_TOKENS else None


def _says(value: msgspec.Raw) -> bool:
    return value is not _NOTHING and bytes(value) not in _EMPTY_VALUES


def _speaks(part: _Delta) -> bool:
    return _says(part.content) or _says(part.reasoning) or _says(part.reasoning_content) or _says(part.refusal)
