"""The simulated server against recordings of vLLM 0.32.0: the same requests, the same statuses, headers and shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.simulated import frames, simulated
from support.vllm_recordings import FOLDER, recording

VERSION = "v0.32.0"
NOT_SERVED = {"responses"}  # /v1/responses
NOT_COMPILED = {"structured_outputs_regex_bad"}  # regular expressions are not imitated
REQUEST_CUT = {"ctx_prompt_too_long", "ctx_prompt_too_long_nomax", "ctx_stream_too_long", "ctx_truncate_prompt"}


def recorded_requests() -> list[str]:
    """Recordings that hold their whole request."""
    left_out = NOT_SERVED | NOT_COMPILED | REQUEST_CUT
    paths = sorted((FOLDER / VERSION).glob("*.txt"))
    return [path.stem for path in paths if path.read_bytes().startswith(b"### REQUEST") and path.stem not in left_out]


def request_of(name: str) -> tuple[str, str, bytes]:
    """Method, path and body of a recorded request."""
    head, _, _ = (FOLDER / VERSION / f"{name}.txt").read_bytes().partition(b"\n### RESPONSE")
    first, _, body = head.partition(b"\n")
    _, _, method, path = first.decode().split()
    return method, path, body


def shape(value: object) -> object:
    """Keys in order and types; of a list, its first item's."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.mark.parametrize("name", recorded_requests())
async def test_a_recorded_request_gets_the_recorded_answer(name: str) -> None:
    """Status and headers agree; errors byte for byte, answers in every key, its order and its type."""
    expected = recording(f"{VERSION}/{name}")
    method, path, body = request_of(name)
    content_type = "text/plain" if name == "wrong_content_type" else "application/json"
    async with (
        simulated() as server,
        server.session.request(
            method, server.url + path, data=body, headers={"content-type": content_type}
        ) as response,
    ):
        answer = await response.read()
    headers = {key.lower(): value for key, value in response.headers.items()}
    assert response.status == expected.status
    for header in ("content-type", "server", "vary", "allow"):
        assert headers.get(header) == expected.headers.get(header), header
    if response.status >= 400 or not expected.body:
        assert answer == expected.body
    elif expected.streamed:
        assert_same_frames(frames(answer), frames(expected.body))
    elif name == "metrics":
        assert_same_series(answer.decode(), expected.body.decode())
    else:
        assert shape(json.loads(answer)) == shape(json.loads(expected.body))


def assert_same_frames(ours: list[Any], theirs: list[Any]) -> None:
    """First, middle, last and closing frames have the recorded keys; how many tokens share a chunk is free."""
    assert shape(ours[0]) == shape(theirs[0])
    content = [frame for frame in theirs[1:-1] if frame["choices"] and not frame["choices"][0]["finish_reason"]]
    middle = [frame for frame in ours[1:-1] if frame["choices"] and not frame["choices"][0]["finish_reason"]]
    assert all(shape(frame) == shape(content[0]) for frame in middle)
    ends = 1 + sum(1 for frame in theirs[:-1] if not frame["choices"])
    assert [shape(frame) for frame in ours[-1 - ends :]] == [shape(frame) for frame in theirs[-1 - ends :]]
    assert ours[-1] == theirs[-1] == "[DONE]"


def assert_same_series(ours: str, theirs: str) -> None:
    """Every series that the simulator shows is one that vLLM shows, with the same labels and type."""

    def series(text: str) -> set[str]:
        return {line.rpartition(" ")[0] if line[0] != "#" else line for line in text.splitlines() if line}

    assert series(ours) <= series(theirs)
    assert len(series(ours)) > 12


async def test_the_recorded_clamp_is_imitated() -> None:
    """Prompt + max_tokens above max_model_len is cut silently, as recorded: 512 tokens in all and finish `length`."""
    _, path, body = request_of("ctx_sum_too_big")
    async with simulated() as server:
        _, answer = await server.post(path, json.loads(body) | {"ignore_eos": True})
    ours, theirs = json.loads(answer), json.loads(recording(f"{VERSION}/ctx_sum_too_big").body)
    for data in (ours, theirs):
        assert data["usage"]["total_tokens"] == 512
        assert data["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("more", [{"max_tokens": 8}, {}, {"stream": True}])
async def test_a_prompt_above_the_context_is_refused_before_any_frame(more: dict[str, Any]) -> None:
    """The recorded 400, which counts text only up to the limit + 1, streamed or not."""
    messages = [{"role": "user", "content": "import os " * 600}]
    async with simulated() as server:
        status, body = await server.chat(messages=messages, **more)
    expected = recording(f"{VERSION}/ctx_prompt_too_long")
    assert (status, body) == (expected.status, expected.body)


async def test_a_truncated_prompt_leaves_one_token_of_output() -> None:
    """`truncate_prompt_tokens: -1` answers with 511 + 1 tokens, as recorded."""
    messages = [{"role": "user", "content": "import os " * 600}]
    async with simulated() as server:
        _, body = await server.chat(messages=messages, truncate_prompt_tokens=-1)
    theirs = json.loads(recording(f"{VERSION}/ctx_truncate_prompt").body)
    assert json.loads(body)["usage"] == theirs["usage"]


async def test_a_request_id_names_the_answer() -> None:
    """`X-Request-Id: abc-123` becomes `chatcmpl-abc-123`, as recorded."""
    _, path, body = request_of("request_id")
    async with simulated() as server:
        headers = {"x-request-id": "abc-123", "content-type": "application/json"}
        async with server.session.post(server.url + path, data=body, headers=headers) as response:
            answer = await response.json()
    assert answer["id"] == json.loads(recording(f"{VERSION}/request_id").body)["id"]


async def test_json_by_schema_is_the_recorded_kind_of_answer() -> None:
    """A schema is answered with JSON that has its keys, and cut with finish `length` where max_tokens is short."""
    _, path, body = request_of("json_schema")
    asked = json.loads(body)
    async with simulated() as server:
        _, whole = await server.post(path, asked)
        _, cut = await server.post(path, asked | {"max_tokens": 3})
    valid = json.loads(recording(f"{VERSION}/json_schema_valid").body)["choices"][0]
    ours = json.loads(whole)["choices"][0]
    assert ours["finish_reason"] == valid["finish_reason"] == "stop"
    assert list(json.loads(ours["message"]["content"])) == list(json.loads(valid["message"]["content"])) == ["a", "b"]
    assert json.loads(cut)["choices"][0]["finish_reason"] == "length"
    assert recording(f"{VERSION}/json_schema_truncated").status == 200
