"""The rest of a continued answer, in the form in which its client got the beginning.

Whatever the pool that goes on speaks (`/v1/completions` behind token ids, chat behind a text), its chunks come out with
the id, time and model of the stream that broke: text, one finish, and a usage that counts the whole answer. Roles and
what engines add of their own (reasoning of another model) are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from pools.failures.classify import garbled
from pools.wire.backend import Frame
from pools.wire.chunk import Chunk, chunk_of
from pools.wire.sse import FramePeek
from pricing.money import usd_number
from router.money.accounting import Attempt
from router.output.continuation import Broken, How
from router.output.stops import Join
from router.output.streaming import LeaveMeter, Priced, Shaped

_HEAD: Final = ("id", "object", "created", "model")
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)


class Voice:
    """Writes frames in the client's protocol, as the stream that broke did.

    `inexact`: some pool went on from the text, and the usage says so.
    """

    def __init__(self, broken: Broken, *, inexact: bool) -> None:
        parsed = broken.asked.parsed
        self._chat = broken.asked.chat
        self._wants_usage, self._wants_each = parsed.wants_usage, parsed.wants_continuous_usage
        self.wants_ids = parsed.wants_token_ids
        self._head = {name: value for name, value in _FIELDS.decode(broken.transcript.last).items() if name in _HEAD}
        self._prompt_tokens, self._tokens_before = broken.prompt_tokens, broken.completion_tokens
        self._mark = {"x_sluice": {"continued": How.TEXT}} if inexact else {}

    def chunk(self, text: str, finish: str | None, stopped_by: Any, ids: list[int], seen: FramePeek) -> bytes:
        """One frame of text; with `finish`, the last one."""
        part = {"delta": {"content": text}} if self._chat else {"text": text}
        choice: dict[str, Any] = {"index": 0, **part, "logprobs": None, "finish_reason": finish}
        if finish is not None:
            choice["stop_reason"] = stopped_by
        if self.wants_ids:
            choice["token_ids"] = ids
        more = {"usage": self._usage(seen.prompt_tokens, seen.completion_tokens)} if self._wants_each else {}
        return _frame({**self._head, "choices": [choice], **more})

    def usage(self, prompt_tokens: int | None, completion_tokens: int | None, charge_nusd: int) -> bytes:
        """The frame after the last one, for a client that asked for it; empty for others. Tokens are those of the
        attempt that ran last, None where none did.
        """
        if not self._wants_usage:
            return b""
        usage = {"cost": usd_number(charge_nusd), **self._usage(prompt_tokens, completion_tokens)}
        return _frame({**self._head, "choices": [], "usage": usage, **self._mark})

    def _usage(self, prompt_tokens: int | None, completion_tokens: int | None) -> dict[str, int]:
        """The original prompt, and what all attempts generated."""
        prompt = (prompt_tokens or 0) if self._prompt_tokens is None else self._prompt_tokens
        completion = self._tokens_before + (completion_tokens or 0)
        return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


class Ended:
    """The rest of an answer that has nothing left to say: it had all its tokens when its stream broke."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    async def frames(self, leave_meter: LeaveMeter) -> AsyncIterator[bytes]:
        yield self._voice.chunk("", "length", None, [], FramePeek())
        if usage := self._voice.usage(None, None, await leave_meter()):
            yield usage

    async def aclose(self) -> None:
        """Nothing is open."""


class Reshaped:
    """The shape of a stream that goes on with a broken one."""

    def __init__(self, voice: Voice, attempt: Attempt, broken: Broken, join: Join) -> None:
        self._voice = voice
        self._attempt = attempt
        self._transcript = broken.transcript
        self._again = broken.again
        self._join = join
        self._complete = False  # a stop string across the cut ended the answer

    def may_end_empty(self, finish_reason: str) -> bool:
        """What was said before the break is an answer."""
        return True

    def shape(self, frame: Frame, seen: FramePeek) -> Shaped:
        """One frame as the client gets it; None for one that says nothing to it."""
        if seen.prompt_tokens is not None:
            self._attempt.prompt_tokens = seen.prompt_tokens
            self._attempt.completion_tokens = seen.completion_tokens
            self._attempt.cached_tokens = seen.cached_tokens
        if seen.choices_empty:
            return Priced(self._usage) if seen.has_usage else None
        chunk = chunk_of(frame.data)
        text, finish, stopped_by = self._joined(chunk, seen)
        known = len(self._transcript.ids)
        self._transcript.add(chunk, msgspec.json.encode(text)[1:-1])
        ids = self._new_ids(known) if self._voice.wants_ids else []
        if not text and finish is None and not ids:
            return None
        out = self._voice.chunk(text, finish, stopped_by, ids, seen)
        return Priced(lambda charge_nusd: out + self._usage(charge_nusd)) if self._complete else out

    def _new_ids(self, known: int) -> list[int]:
        """The ids that the chunk brought and that the client does not have yet."""
        ids = self._transcript.ids[known:].tolist()
        had = min(len(ids), self._again)
        self._again -= had
        return ids[had:]

    def _usage(self, charge_nusd: int) -> bytes:
        attempt = self._attempt
        return self._voice.usage(attempt.prompt_tokens, attempt.completion_tokens, charge_nusd)

    def is_complete(self) -> bool:
        return self._complete

    def ended(self) -> None:
        """Nothing to look at in the end."""

    def _joined(self, chunk: Chunk, seen: FramePeek) -> tuple[str, str | None, Any]:
        """Text that may go out, how the answer ends with it, and by which stop string or token."""
        if not seen.finish_reasons:
            text, finish, stopped_by = self._join.feed(_decoded(chunk.text)), None, None
        else:
            found = bytes(chunk.choices[0].stop_reason) if chunk.choices else b""
            stop = _decoded(found[1:-1]) if found.startswith(b'"') else None
            text, finish = self._join.end(_decoded(chunk.text), stop), seen.finish_reasons[0][1]
            stopped_by = msgspec.Raw(found or b"null")
        if self._join.stopped_by is None:
            return text, finish, stopped_by
        self._complete = finish is None
        return text, "stop", self._join.stopped_by


def _decoded(text: bytes) -> str:
    """JSON between its quotes. Raises AttemptFailed where it is not UTF-8, which a whole frame may be all the same."""
    try:
        return _TEXT.decode(b'"%b"' % text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise garbled("sent text that is not UTF-8") from None


def _frame(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
