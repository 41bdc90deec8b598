"""A whole answer told as a stream holds the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse
from router.output.whole_as_stream import frames_of

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cost": 0.5}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "tiny", "system_fingerprint": "fp"}


def asked(path: str = CHAT_PATH, **more: Any) -> Parsed:
    said = {"messages": [{"role": "user", "content": "?"}]} if path == CHAT_PATH else {"prompt": "?"}
    return parse(path, json.dumps({"model": "m", "stream": True, **said, **more}).encode())


def told(parsed: Parsed, *choices: dict[str, Any], **more: Any) -> list[Any]:
    body = json.dumps({**HEAD, "choices": choices, "usage": USAGE, **more}).encode()
    frames = list(frames_of(parsed, body))
    assert all(frame.startswith(b"data: {") and frame.endswith(b"}\n\n") for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def choice(text: str | None, reason: str = "stop", index: int = 0, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None, "tool_calls": [], **more}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason, "stop_reason": None}


def test_role_content_and_finish_come_in_turn() -> None:
    """As an engine tells it: the role with an empty text, the text, the reason without any."""
    chunks = told(asked(), choice('{"a": 1}'))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": '{"a": 1}'},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    heads = [{name: chunk[name] for name in HEAD} for chunk in chunks]
    assert heads == [{**HEAD, "object": "chat.completion.chunk"}] * 3


@pytest.mark.parametrize("wanted", [False, True])
def test_usage_comes_last_where_it_was_asked_for(wanted: bool) -> None:
    """In a chunk without choices, with the cost in it; else not at all."""
    chunks = told(asked(stream_options={"include_usage": wanted}), choice("{}"))
    assert [chunk.get("usage") for chunk in chunks] == [None, None, None, *[USAGE] * wanted]
    assert chunks[-1]["choices"] == [] or not wanted


def test_the_official_client_adds_them_up_to_the_answer() -> None:
    """Texts, tool calls, refusals and reasons of several choices are those of the whole answer."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    whole = [
        choice('{"a": "é\\u0000"}', index=0),
        choice(None, "tool_calls", 1, tool_calls=[call, {**call, "id": "c2"}]),
        choice(None, "stop", 2, refusal="no"),
        choice("", "length", 3),
    ]
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in told(asked(n=4), *whole):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    got = state.current_completion_snapshot.choices
    assert [one.message.content or None for one in got] == ['{"a": "é\\u0000"}', None, None, None]
    assert [[one.id for one in each.message.tool_calls or []] for each in got] == [[], ["c1", "c2"], [], []]
    assert [one.message.refusal for one in got] == [None, None, "no", None]
    assert [one.finish_reason for one in got] == ["stop", "tool_calls", "stop", "length"]


def test_values_stay_byte_for_byte() -> None:
    """Numbers and escapes are the engine's own."""
    body = b'{"id":"x","created":1,"choices":[{"index":0,"message":{"role":"assistant","content":"\\u00e9 1"},'
    body += b'"logprobs":{"content":[{"logprob":-0.50}]},"finish_reason":"stop"}],"usage":{"cost":1e-9}}'
    [_, content, finish, usage] = frames_of(asked(stream_options={"include_usage": True}), body)
    assert b'"delta":{"content":"\\u00e9 1"},"logprobs":{"content":[{"logprob":-0.50}]}' in content
    assert b"-0.50" not in finish
    assert b'"choices":[],"usage":{"cost":1e-9}' in usage


def test_completions_have_one_chunk_a_choice() -> None:
    """The older endpoint's chunks look like its answers' choices."""
    choices = [{"index": 0, "text": "{}", "logprobs": None, "finish_reason": "stop"}, {"index": 1, "text": "[]"}]
    chunks = told(asked(COMPLETIONS_PATH, stream_options={"include_usage": True}), *choices)
    assert [chunk["choices"] for chunk in chunks] == [[choices[0]], [choices[1]], []]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
