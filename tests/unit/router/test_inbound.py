"""Bodies are read once, strictly where routing depends on them and not at all elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.spec import Feature
from router.errors import ApiError
from router.inbound import CHAT_PATH, COMPLETIONS_PATH, parse

SCHEMA_IS_3 = {"type": "json_schema", "json_schema": 3}
HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "chat", "messages": HELLO, **fields}).encode()


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"\xff", "invalid_json", None),
        (b'{"model":"chat","messages":[{"role":"\xff"}]}', "invalid_json", None),
        (b"[]", "invalid_value", None),
        (b'{"messages": []}', "invalid_value", "model"),
        (b'{"model": 3, "messages": []}', "invalid_value", "model"),
        (b'{"model": "chat"}', "invalid_value", "messages"),
        (chat(messages=[]), "invalid_value", "messages"),
        (chat(messages="hi"), "invalid_value", "messages"),
        (chat(messages=[{"content": "hi"}]), "invalid_value", "messages[0]"),
        (chat(model=""), "invalid_value", "model"),
        (chat(max_tokens="4"), "invalid_value", "max_tokens"),
        (chat(max_tokens=0), "invalid_value", "max_tokens"),
        (chat(max_completion_tokens=0), "invalid_value", "max_completion_tokens"),
        (chat(n=0), "invalid_value", "n"),
        (chat(stream="yes"), "invalid_value", "stream"),
        (
            chat(response_format={"type": "json_schema", "json_schema": 3}),
            "invalid_value",
            "response_format.json_schema",
        ),
    ],
)
def test_wrong_bodies_are_refused_by_name(body: bytes, code: str, param: str | None) -> None:
    """Each wrong body gets the code and the field that its sender has to change."""
    with pytest.raises(ApiError) as caught:
        parse(CHAT_PATH, body)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.status == 400


def test_features_follow_from_the_fields() -> None:
    """Images, tools, a response format and logprobs each ask for a pool that has them."""
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    parsed = parse(
        CHAT_PATH,
        chat(
            messages=image,
            tools=[{"type": "function", "function": {"name": "f"}}],
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}},
            logprobs=True,
        ),
    )
    assert parsed.features == {Feature.VISION, Feature.TOOLS, Feature.JSON_SCHEMA, Feature.LOGPROBS}
    assert parsed.json_schema is not None
    assert json.loads(parsed.json_schema) == {"type": "array"}


def test_plain_text_format_asks_for_nothing() -> None:
    """`response_format: text` is the default, said aloud."""
    assert parse(CHAT_PATH, chat(response_format={"type": "text"}, tools=[])).features == frozenset()


def test_the_newer_name_of_the_bound_wins() -> None:
    """`max_completion_tokens` replaced `max_tokens` in OpenAI's API."""
    assert parse(CHAT_PATH, chat(max_tokens=5, max_completion_tokens=7)).max_tokens == 7


@pytest.mark.parametrize(("prompt", "count"), [([1, 2, 3], 3), ([[1, 2], [3]], 2), ("text", None), (["a", "b"], None)])
def test_token_ids_are_counted_exactly(prompt: Any, count: int | None) -> None:
    """A prompt of token ids needs no estimate."""
    body = json.dumps({"model": "chat", "prompt": prompt}).encode()
    assert parse(COMPLETIONS_PATH, body).prompt_token_count == count


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_unknown_fields_never_matter(extra: dict[str, Any]) -> None:
    """Whatever else a client sends, the request parses as it would without it, and its bytes are kept."""
    known = {"model", "messages", "stream", "stream_options", "max_tokens", "n", "user", "response_format"}
    known |= {"max_completion_tokens", "tools", "logprobs"}
    body = json.dumps(
        {**{k: v for k, v in extra.items() if k not in known}, "model": "chat", "messages": HELLO}
    ).encode()
    parsed = parse(CHAT_PATH, body)
    assert (parsed.model, parsed.stream, parsed.body) == ("chat", False, body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """No body raises anything but an ApiError, and none of these is a request."""
    with pytest.raises(ApiError) as caught:
        parse(CHAT_PATH, body)
    assert caught.value.status == 400
