"""Is an answer what was asked for: not empty, and JSON that fits the schema where one was given."""

from __future__ import annotations

from typing import Final

import msgspec

from pricing.ledger.rows import SchemaResult
from router.inbound.request import Parsed
from router.output.answers import texts_of

EMPTY: Final = "the answer is empty"
TEXT_AT_MOST: Final = 4 * 2**20  # characters of a streamed answer that are kept for its schema; longer is not judged


class Checked(msgspec.Struct, frozen=True):
    """`problem` says what is wrong, without quoting the answer; None when nothing is. `schema` None: none was asked."""

    problem: str | None = None
    schema: SchemaResult | None = None


_FINE: Final = Checked()


def checked(parsed: Parsed, body: bytes) -> Checked:
    """Judge a whole answer. Raises msgspec.DecodeError and UnicodeDecodeError.

    An answer cut off at the client's own `max_tokens` is what the client asked for, whatever it holds.
    """
    results = []
    for finish_reason, text, calls_tools in texts_of(body):
        if calls_tools:
            continue
        cut = is_cut(parsed, finish_reason)
        if not cut and not text.strip():
            return Checked(EMPTY, None if parsed.json_schema is None else SchemaResult.BROKEN)
        if parsed.json_schema is not None:
            problem = _breaks(parsed.json_schema, text)
            if problem is not None and not cut:
                return Checked(problem, SchemaResult.BROKEN)
            results.append(SchemaResult.KEPT if problem is None else SchemaResult.CUT)
    return Checked(None, _worst(results)) if results else _FINE


class StreamedText:
    """Adds up the text of a stream whose answer has a schema, so that it can be judged when it is complete."""

    def __init__(self, parsed: Parsed, schema: bytes) -> None:
        self._parsed = parsed
        self._schema = schema
        self._parts: dict[int, list[str]] = {}
        self._reasons: dict[int, str] = {}
        self._calls_tools: set[int] = set()
        self._size = 0
        self._judgeable = True

    def feed(self, data: bytes) -> None:
        """One frame's data, which is known to be a chunk of an answer."""
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):  # a text that is none, say half a surrogate pair
            self._judgeable = False
            return
        for choice in chunk.choices or ():
            delta = choice.delta
            text = choice.text if delta is None else delta.content or delta.refusal
            if text and self._judgeable:
                self._parts.setdefault(choice.index, []).append(text)
                self._size += len(text)
                self._judgeable = self._size <= TEXT_AT_MOST
            if delta is not None and delta.tool_calls:
                self._calls_tools.add(choice.index)
            if choice.finish_reason is not None:
                self._reasons[choice.index] = choice.finish_reason

    def result(self) -> SchemaResult | None:
        """How the answer kept to its schema; None where it called tools, or cannot be judged."""
        if not self._judgeable:
            return None
        judged = [self._judge(index) for index in self._reasons if index not in self._calls_tools]
        return _worst(judged) if judged else None

    def _judge(self, index: int) -> SchemaResult:
        if _breaks(self._schema, "".join(self._parts.get(index, ()))) is None:
            return SchemaResult.KEPT
        return SchemaResult.CUT if is_cut(self._parsed, self._reasons[index]) else SchemaResult.BROKEN


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_FROM_BEST: Final = (SchemaResult.KEPT, SchemaResult.CUT, SchemaResult.BROKEN)


def _worst(results: list[SchemaResult]) -> SchemaResult:
    """Of several choices, the one that an answer counts as."""
    return max(results, key=_FROM_BEST.index)


def is_cut(parsed: Parsed, finish_reason: str | None) -> bool:
    """Whether an answer ended at the client's own bound, so that it is what the client asked for."""
    return finish_reason == "length" and parsed.max_tokens is not None


def _breaks(schema: bytes, text: str) -> str | None:
    from router.output.schema_check import breaks_schema  # costs 60 ms to import, and most never ask for a schema

    return breaks_schema(schema, text)
