"""Bodies are read once, strictly where routing depends on them and not at all elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.spec import Feature
from router.errors import ApiError
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, parse

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


@pytest.mark.parametrize(
    ("prompt", "count", "prompts", "longest_share"),
    [
        ([1, 2, 3], 3, 1, 1.0),
        ([[1, 2, 3], [4]], 4, 2, 0.75),
        ([[]], 0, 1, 0.0),
        ("text", None, 1, 1.0),
        (["a", "bbb"], None, 2, 0.75),
        ([], None, 1, 1.0),
    ],
)
def test_prompts_are_told_apart(prompt: Any, count: int | None, prompts: int, longest_share: float) -> None:
    """Token ids are counted, texts are not; of several prompts the longest one's part is known."""
    parsed = parse(COMPLETIONS_PATH, json.dumps({"model": "chat", "prompt": prompt}).encode())
    assert (parsed.prompt_token_count, parsed.prompts, parsed.longest_share) == (count, prompts, longest_share)


@pytest.mark.parametrize("part", ["image_url", 5, {"image_url": None}, {"image_url": {"url": 5}}])
def test_a_part_that_is_none_is_refused(part: Any) -> None:
    """Content that is no list of parts is the client's mistake, not a fault of the endpoint."""
    with pytest.raises(ApiError) as caught:
        parse(CHAT_PATH, chat(messages=[{"role": "user", "content": [part, {"type": "image_url"}]}]))
    assert (caught.value.code, caught.value.param) == ("invalid_value", "messages")


def test_only_an_image_asks_for_vision() -> None:
    """A tool whose argument is called `image_url` needs no pool that sees."""
    argument = {"type": "object", "properties": {"image_url": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": argument}}
    assert parse(CHAT_PATH, chat(tools=[tool])).features == {Feature.TOOLS}


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
