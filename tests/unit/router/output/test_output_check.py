"""Whether an answer keeps to the JSON schema that was asked for, whole or in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.ledger.rows import SchemaResult
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse
from router.output.check import EMPTY, TEXT_AT_MOST, Checked, StreamedText, checked

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
KEEPS, BREAKS, HALF = '{"n": 1}', '{"n": "one"}', '{"n": '


def asked(schema: dict[str, Any] | None = SCHEMA, **more: Any) -> Parsed:
    if schema is not None:
        more["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return parse(CHAT_PATH, json.dumps({"model": "m", "messages": [{"role": "user", "content": "?"}], **more}).encode())


def whole(*texts: tuple[str | None, str], **message: Any) -> bytes:
    choices = [
        {"index": place, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
        for place, (text, reason) in enumerate(texts)
    ]
    return json.dumps({"choices": choices}).encode()


def streamed(parsed: Parsed, *chunks: tuple[int, str | None, str | None]) -> SchemaResult | None:
    """What is made of chunks, each of (index, text, finish reason)."""
    text = StreamedText(parsed, parsed.json_schema or b"")
    for index, content, reason in chunks:
        choice = {"index": index, "delta": {"content": content}, "finish_reason": reason}
        text.feed(json.dumps({"choices": [choice]}).encode())
    return text.result()


@pytest.mark.parametrize(
    ("text", "reason", "max_tokens", "result"),
    [
        (KEEPS, "stop", None, SchemaResult.KEPT),
        (KEEPS, "length", 5, SchemaResult.KEPT),
        (HALF, "length", 5, SchemaResult.CUT),
        ("", "length", 5, SchemaResult.CUT),
        (HALF, "length", None, SchemaResult.BROKEN),
        (BREAKS, "stop", 5, SchemaResult.BROKEN),
        ("sorry", "stop", None, SchemaResult.BROKEN),
    ],
)
def test_whole_and_streamed_are_judged_alike(
    text: str, reason: str, max_tokens: int | None, result: SchemaResult
) -> None:
    """Only an answer that the client's own `max_tokens` cut off is neither kept nor broken."""
    parsed = asked(**({} if max_tokens is None else {"max_tokens": max_tokens}))
    found = checked(parsed, whole((text, reason)))
    assert found.schema is result
    assert (found.problem is not None) == (result is SchemaResult.BROKEN)
    assert streamed(parsed, (0, text[:3], None), (0, text[3:], None), (0, "", reason)) is result


@given(st.text(min_size=1).map(lambda text: json.dumps({"n": 1, "text": text})), st.data())
def test_however_a_stream_is_cut_its_text_is_the_same(text: str, data: st.DataObject) -> None:
    """Pieces of any size add up to the answer, of each choice apart."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    chunks = [(index, piece, None) for piece in pieces for index in (0, 1)]
    ends = ((0, None, "stop"), (1, None, "stop"))
    assert streamed(asked(n=2), *chunks, *ends) is SchemaResult.KEPT
    assert streamed(asked(n=2), *chunks, (1, "!", None), *ends) is SchemaResult.BROKEN


def test_several_choices_count_as_the_worst() -> None:
    """One choice that breaks the schema is a broken answer, one that is cut makes it a cut one."""
    parsed = asked(n=2, max_tokens=5)
    assert checked(parsed, whole((KEEPS, "stop"), (HALF, "length"))) == Checked(None, SchemaResult.CUT)
    assert checked(parsed, whole((HALF, "length"), (BREAKS, "stop"))).schema is SchemaResult.BROKEN
    assert streamed(parsed, (0, HALF, "length"), (1, BREAKS, "stop")) is SchemaResult.BROKEN


def test_an_answer_that_calls_a_tool_is_not_judged() -> None:
    """Its text is the tool's arguments, which have a schema of their own."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert checked(asked(), whole((None, "tool_calls"), tool_calls=[call])) == Checked()
    text = StreamedText(asked(), json.dumps(SCHEMA).encode())
    text.feed(json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}).encode())
    text.feed(b'{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}')
    assert text.result() is None


def test_nothing_is_judged_that_was_not_asked_for() -> None:
    """Without a schema any text will do, but for none at all; with one, none at all breaks it."""
    assert checked(asked(None), whole(("hello", "stop"))) == Checked()
    assert checked(asked(None), whole((" \n", "stop"))) == Checked(EMPTY)
    assert checked(asked(), whole(("", "stop"))) == Checked(EMPTY, SchemaResult.BROKEN)


def test_completions_are_judged_too() -> None:
    """Their chunks have a text where chat has a delta."""
    body = {"model": "m", "prompt": "?", "response_format": {"type": "json_object"}}
    parsed = parse(COMPLETIONS_PATH, json.dumps(body).encode())
    text = StreamedText(parsed, parsed.json_schema or b"")
    text.feed(b'{"choices":[{"index":0,"text":"{\\"a\\":","finish_reason":null}]}')
    text.feed(b'{"choices":[{"index":0,"text":"1}","finish_reason":"stop"}]}')
    assert text.result() is SchemaResult.KEPT
    assert checked(parsed, b'{"choices":[{"text":"[1]","finish_reason":"stop"}]}').schema is SchemaResult.BROKEN


def test_what_cannot_be_judged_is_not() -> None:
    """A text beyond the bound is not kept, and one that is no text is not guessed at."""
    parsed = asked()
    assert streamed(parsed, (0, "x" * (TEXT_AT_MOST + 1), None), (0, None, "stop")) is None
    text = StreamedText(parsed, parsed.json_schema or b"")
    text.feed(b'{"choices":[{"index":0,"delta":{"content":[1]},"finish_reason":"stop"}]}')
    assert text.result() is None
    assert streamed(parsed, (0, KEEPS, None)) is None
