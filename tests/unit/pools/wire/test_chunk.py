"""A chunk as raw values: what it says is found, and what only the router asked for is taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.wire.chunk import chunk_of

texts = st.text() | st.sampled_from([',"token_ids":[1]', '"usage":{}', '\\",', "é🙂", ',"usage":null'])
ids = st.none() | st.lists(st.integers(0, 200_000), max_size=4)


def spelled(fields: Any, spaced: bool) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(", ", ": ") if spaced else (",", ":")).encode()


@given(texts, ids, ids, st.booleans(), st.booleans(), st.booleans())
def test_what_was_not_asked_for_is_gone_and_all_else_unchanged(
    text: str, token_ids: list[int] | None, prompt: list[int] | None, chat: bool, spaced: bool, first: bool
) -> None:
    """Token ids, prompt and usage are out, wherever they stand and however the engine writes them."""
    part: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text, "prompt_token_ids": prompt}
    fields = {"id": "x", "choices": [{"index": 0, **part, "token_ids": token_ids}], "usage": {"prompt_tokens": 3}}
    if chat:
        fields |= {"prompt_token_ids": prompt, "prompt_text": None}
    if first:
        fields = dict(reversed(fields.items()))
    data = spelled(fields, spaced)
    chunk = chunk_of(data)
    left = json.loads(chunk.without_usage(chunk.without_ids(data)))
    choice = {"delta": part["delta"]} if chat else {"text": text}
    assert left == {"id": "x", "choices": [{"index": 0, **choice}]}
    assert json.loads(b'"%b"' % chunk.text) == text
    assert json.loads(chunk.token_ids or b"[]") == (token_ids or [])
    assert json.loads(chunk.prompt_ids or b"[]") == (prompt or [])


def test_what_is_not_there_is_not_taken_out() -> None:
    """Chunks of engines that name no ids and no usage stay byte for byte."""
    data = b'{"id": "x", "choices": [{"index": 0, "delta": {"content": "hi"}}]}'
    chunk = chunk_of(data)
    assert chunk.without_usage(chunk.without_ids(data)) == data
    assert (chunk.token_ids, chunk.prompt_ids, chunk.text) == (b"", b"", b"hi")
    usage = chunk_of(b'{"choices":[],"usage":{"prompt_tokens":1}}')
    assert (usage.token_ids, usage.prompt_ids, usage.text, usage.says_otherwise) == (b"", b"", b"", False)


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "hi", "reasoning": None, "tool_calls": [], "refusal": ""}, False),
        ({"reasoning": "hm"}, True),
        ({"reasoning_content": "hm"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"function_call": {"name": "f"}}, True),
        ({"refusal": "no"}, True),
    ],
)
def test_more_than_text_is_seen(delta: dict[str, Any], expected: bool) -> None:
    """Reasoning, calls and refusals, in the names that versions give them."""
    assert chunk_of(spelled({"choices": [{"index": 0, "delta": delta}]}, False)).says_otherwise is expected
