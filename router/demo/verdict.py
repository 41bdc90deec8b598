"""What became of one request, judged from the bytes that its client received, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec


class Verdict(StrEnum):
    SERVED = "served"  # a complete answer: every choice has a finish reason, a stream ends with [DONE], no error
    REFUSED = "refused"  # a complete OpenAI error object instead of an answer
    BROKEN = "broken"  # an answer that began and ended in an error, or without its end
    LOST = "lost"  # anything else: no connection, no answer in time, bytes that say nothing


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict; `why` is the error's code, or what was wrong with the bytes. Empty where all is well."""

    verdict: Verdict
    why: str = ""


class _Error(msgspec.Struct):
    message: str
    type: str
    code: str | int | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None
    delta: dict[str, Any] | None = None
    message: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    """An answer, a chunk or an error, told apart by what they hold."""

    error: _Error | None = None
    choices: list[_Choice] | None = None


_DECODE: Final = msgspec.json.Decoder(_Body).decode
DONE: Final = b"[DONE]"


def lost(why: str) -> Judged:
    return Judged(Verdict.LOST, why)


def judge_whole(status: int, raw: bytes) -> Judged:
    """A whole body: an answer that is not streamed, or an error."""
    try:
        body = _DECODE(raw)
    except msgspec.DecodeError:
        return lost(f"status {status} with a body that is neither an answer nor an OpenAI error")
    if body.error is not None:
        return Judged(Verdict.REFUSED, str(body.error.code or body.error.type))
    if status == 200 and body.choices:
        if all(choice.finish_reason and choice.message is not None for choice in body.choices):
            return Judged(Verdict.SERVED)
        return Judged(Verdict.BROKEN, "no finish reason")
    return lost(f"status {status} with a body that is neither an answer nor an OpenAI error")


def judge_stream(raw: bytes) -> Judged:
    """The bytes of a stream that began with status 200, up to its end, however it ended."""
    unfinished: set[int] = set()
    began = False
    for data in _events(raw):
        if data == DONE:
            if began and not unfinished:
                return Judged(Verdict.SERVED)
            return Judged(Verdict.BROKEN, "[DONE] without a finish reason")
        try:
            body = _DECODE(data)
        except msgspec.DecodeError:
            return Judged(Verdict.BROKEN, "an event that is not JSON") if began else lost("an event that is not JSON")
        if body.error is not None:
            return Judged(Verdict.BROKEN, str(body.error.code or body.error.type))
        for choice in body.choices or ():
            began = True
            if choice.finish_reason:
                unfinished.discard(choice.index)
            else:
                unfinished.add(choice.index)
    return Judged(Verdict.BROKEN, "ended without [DONE]") if began else lost("a stream that says nothing")


def _events(raw: bytes) -> Iterator[bytes]:
    """The data of each complete event; comments and other fields are passed over."""
    for event in raw.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines:
            yield b"\n".join(lines)
