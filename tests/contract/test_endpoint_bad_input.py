"""Bad input gets a clear OpenAI-shaped error, costs nothing, and never reaches a pool."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from router.errors import ERRORS
from support.endpoint import (
    ASK,
    CHAT,
    COMPLETIONS,
    KEYS,
    Endpoint,
    Reply,
    before_scripts,
    before_simulated,
    one_pool,
    policy,
)
from support.scripted_server import Exchange


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "chat", "messages": ASK, **fields}).encode()


BODIES: dict[str, tuple[bytes, int, str, str | None]] = {
    "empty": (b"", 400, "invalid_json", None),
    "text": (b"hello", 400, "invalid_json", None),
    "half": (b'{"model": "chat"', 400, "invalid_json", None),
    "more after it": (body() + b" x", 400, "invalid_json", None),
    "not UTF-8": (b'{"model": "\xff"}', 400, "invalid_json", None),
    "half a surrogate": (b'{"model": "\\ud800"}', 400, "invalid_json", None),
    "nested for ever": (b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "invalid_json", None),
    "a list": (b"[]", 400, "invalid_value", None),
    "null": (b"null", 400, "invalid_value", None),
    "no model": (b'{"messages": []}', 400, "invalid_value", "model"),
    "no messages": (b'{"model": "chat"}', 400, "invalid_value", "messages"),
    "empty messages": (body(messages=[]), 400, "invalid_value", "messages"),
    "a message that is text": (body(messages=["hello"]), 400, "invalid_value", "messages[0]"),
    "a part that is a number": (
        body(messages=[{"role": "user", "content": [5, {"type": "image_url"}]}]),
        400,
        "invalid_value",
        "messages",
    ),
    "max_tokens as text": (body(max_tokens="5"), 400, "invalid_value", "max_tokens"),
    "max_tokens 0": (body(max_tokens=0), 400, "invalid_value", "max_tokens"),
    "a negative n": (body(n=-1), 400, "invalid_value", "n"),
    "stream as text": (body(stream="yes"), 400, "invalid_value", "stream"),
    "a schema that is a number": (
        body(response_format={"type": "json_schema", "json_schema": 5}),
        400,
        "invalid_value",
        "response_format.json_schema",
    ),
    "an endless answer": (body(max_tokens=10**30), 400, "context_length_exceeded", "messages"),
    "a long prompt": (
        body(messages=[{"role": "user", "content": "w " * 40_000}]),
        400,
        "context_length_exceeded",
        None,
    ),
    "an unknown class": (body(model="chatt"), 404, "model_not_found", "model"),
    "an unknown tier": (body(model="chat:gold"), 404, "model_not_found", "model"),
    "an unknown alias": (body(model="gpt-4o-minii"), 404, "model_not_found", "model"),
    "a class of pictures": (body(model="pictures"), 400, "feature_not_supported", "model"),
    "an image for a model that reads": (
        body(model="text", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "http://x/y"}]}]),
        400,
        "feature_not_supported",
        None,
    ),
}


async def untouched(exchange: Exchange) -> None:
    raise AssertionError(f"a pool was asked: {exchange.request.path}")


def is_openai_s(reply: Reply) -> bool:
    """An OpenAI error object of a code in the table, with the status and type that the table gives it."""
    error = reply.json["error"]
    entry = ERRORS[error["code"]]
    shaped = {"message", "type", "param", "code"} <= set(error) and bool(error["message"])
    return shaped and (reply.status, error["type"]) == (entry.status, entry.type)


async def test_each_kind_of_bad_body_is_refused_by_name(tmp_path: Path) -> None:
    """Status, code and field say what to change; nothing is asked of a pool, and no money moves."""
    scripts = dict.fromkeys(("small", "mid", "other", "big"), untouched)
    async with before_scripts(tmp_path, scripts) as endpoint:
        for name, (sent, status, code, param) in BODIES.items():
            reply = await endpoint.ask("POST", CHAT, data=sent)
            assert (reply.status, reply.code) == (status, code), name
            assert param is None or reply.json["error"]["param"] == param, name
            assert is_openai_s(reply), name
            assert reply.headers["x-sluice-request-id"], name
        assert endpoint.rows() == []


async def test_a_wrong_prompt_of_completions_is_refused(tmp_path: Path) -> None:
    """A prompt is text, texts, token ids or lists of them."""
    async with before_simulated(tmp_path) as endpoint:
        wrong: list[Any] = [None, 5, {}, [{}], [[["a"]]]]
        for prompt in wrong:
            reply = await endpoint.ask("POST", COMPLETIONS, json={"model": "chat", "prompt": prompt})
            assert (reply.status, reply.code) == (400, "invalid_value"), prompt


async def test_an_unknown_model_gets_the_nearest_names(tmp_path: Path) -> None:
    """The message and the metadata name what was probably meant, be it a class, a tier, a pool or an alias."""
    async with before_simulated(tmp_path) as endpoint:
        for asked, meant in (("chatt", "chat"), ("chat:premum", "chat:premium"), ("gpt-4o", "gpt-4o-mini")):
            error = (await endpoint.chat(model=asked)).json["error"]
            assert meant in error["metadata"]["nearest"]
            assert meant in error["message"]


async def test_a_prompt_that_fits_nowhere_is_told_the_largest_context(tmp_path: Path) -> None:
    """The largest context among the pools that could serve is in message and metadata, pools asleep included."""
    async with before_simulated(tmp_path) as endpoint:
        anywhere = (await endpoint.chat(max_tokens=20_000)).json["error"]
        pinned = (await endpoint.chat(model="small", max_tokens=20_000)).json["error"]
    assert anywhere["metadata"]["largest_context"] == 16_384
    assert "16384" in anywhere["message"]
    assert pinned["metadata"]["largest_context"] == 4_096


async def test_many_answers_fit_where_one_does(tmp_path: Path) -> None:
    """Each of `n` answers has the context to itself: together they may be longer than it."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        reply = await endpoint.chat(n=4, max_tokens=3_000, sim_output_tokens=2)
    assert reply.status == 200
    assert len(reply.json["choices"]) == 4


@pytest.mark.parametrize("stated", [True, False])
async def test_a_body_over_the_limit_is_refused(tmp_path: Path, stated: bool) -> None:
    """413, whether the length is stated or found out on the way, on raw and on other routes."""

    async def in_pieces() -> Any:
        for _ in range(4):
            yield b"x" * 1_000

    async with before_simulated(tmp_path, max_body_bytes=2_000) as endpoint:
        for path in (CHAT, "/v1/route"):
            reply = await endpoint.ask("POST", path, data=b"x" * 4_000 if stated else in_pieces())
            assert (reply.status, reply.code) == (413, "request_too_large")
        assert (await endpoint.chat(max_tokens=1)).status == 200


async def test_a_policy_that_leaves_no_candidate_is_explained(tmp_path: Path) -> None:
    """503 with the reason of each pool that is on the ladder, and no word of those that are not."""
    async with before_simulated(tmp_path, policy(drained=["mid", "other", "big"])) as endpoint:
        reply = await endpoint.chat()
    error = reply.json["error"]
    assert (reply.status, error["code"]) == (503, "no_capable_pool")
    rejected = {one["pool"]: one["reason"] for one in error["metadata"]["rejected"]}
    assert rejected == {"mid": "drained", "other": "drained", "big": "drained"}
    assert "taken out by operators" in error["message"]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "1e9", "\xff"])
async def test_a_deadline_that_is_none_is_refused(tmp_path: Path, seconds: str) -> None:
    """`x-sluice-timeout-s` is a number of seconds above 0 and at most a day."""
    async with before_simulated(tmp_path) as endpoint:
        reply = await endpoint.chat(headers={"x-sluice-timeout-s": seconds})
    assert (reply.status, reply.code) == (400, "invalid_value")


WRONG: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/generate", {"prompt": 5}, 400, "invalid_value"),
    ("POST", "/generate", {"prompt": "x", "streem": True}, 400, "invalid_value"),
    ("POST", "/v1/route", [], 400, "invalid_value"),
    ("POST", "/v1/route", {"model": "chat", "prompt_tokens": -1}, 400, "invalid_value"),
    ("POST", "/v1/route", {"model": "chat", "tier": "gold"}, 400, "invalid_value"),
    ("POST", "/v1/route", {"model": "nope"}, 404, "model_not_found"),
    ("POST", "/warmup", {}, 400, "invalid_value"),
    ("POST", "/warmup", {"modell": "chat"}, 400, "invalid_value"),
    ("POST", "/warmup", {"pool": "nope"}, 404, "model_not_found"),
    ("GET", "/v1/costs?end_time=0", None, 400, "invalid_value"),
    ("GET", "/v1/costs?start_time=x", None, 400, "invalid_value"),
    ("GET", "/v1/costs?start_time=1&bucket_width=9d", None, 400, "invalid_value"),
    ("GET", "/v1/costs?start_time=1&page=x", None, 400, "invalid_value"),
    ("GET", f"/v1/usage?start_time={10**40}", None, 400, "invalid_value"),
    ("GET", "/v1/decisions/%ff%00", None, 404, "decision_not_found"),
    ("GET", "/v1/models/", None, 404, "model_not_found"),
    ("POST", "/v1/embeddings", {}, 404, "unknown_url"),
    ("GET", "/%ff/..//", None, 404, "unknown_url"),
]


async def test_other_routes_refuse_in_the_same_shape(tmp_path: Path) -> None:
    """Misspelt fields, wrong values and unknown paths are OpenAI error objects everywhere."""
    async with before_simulated(tmp_path) as endpoint:
        for method, path, sent, status, code in WRONG:
            reply = await endpoint.ask(method, path, "ops", json=sent)
            assert (reply.status, reply.code) == (status, code), path
            assert is_openai_s(reply), path


async def test_a_wrong_method_is_told_the_right_one(tmp_path: Path) -> None:
    """405 with `Allow`; HEAD gets the headers alone."""
    async with before_simulated(tmp_path) as endpoint:
        for path, allowed in ((CHAT, "POST"), ("/v1/models", "GET"), ("/health", "GET")):
            for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
                reply = await endpoint.ask(method, path)
                assert (reply.status, reply.headers["allow"]) == (405, allowed), (method, path)
                assert reply.body == b"" if method == "HEAD" else reply.code == "method_not_allowed"


async def raw(endpoint: Endpoint, sent: bytes) -> bytes:
    """What comes back for bytes that a test writes itself, until the server closes or has sent one answer."""
    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    found = head + await reader.readexactly(length)
    writer.close()
    return found


async def test_http_1_0_is_answered(tmp_path: Path) -> None:
    """An old client gets its answer, with its length, on a connection that then closes."""
    sent = body(max_tokens=2)
    head = f"POST {CHAT} HTTP/1.0\r\nAuthorization: Bearer {KEYS['acme']}\r\nContent-Length: {len(sent)}\r\n\r\n"
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        got = await raw(endpoint, head.encode() + sent)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["choices"]


@pytest.mark.parametrize(
    "sent", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /x HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_and_nothing_else_suffers(tmp_path: Path, sent: bytes) -> None:
    """A client that does not speak HTTP gets a 400, and the next one its answer."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        assert (await raw(endpoint, sent)).startswith(b"HTTP/1.1 400 ")
        assert (await endpoint.chat(max_tokens=2)).status == 200


async def test_a_refusal_of_the_engine_about_the_request_is_passed_on(tmp_path: Path) -> None:
    """A 4xx that is about the request itself comes down as the engine wrote it, and no other pool is asked."""
    refusal = b'{"error": {"message": "temperature must be in [0, 2]", "type": "BadRequestError", "code": 400}}'

    async def refuse(exchange: Exchange) -> None:
        await exchange.answer("400 Bad Request", refusal)

    async with before_scripts(tmp_path, {"small": refuse}, one_pool()) as endpoint:
        for streamed in (False, True):
            reply = await endpoint.chat(temperature=9, stream=streamed)
            assert (reply.status, reply.body) == (400, refusal)
            assert reply.headers["x-should-retry"] == "false"
        requests = await endpoint.requests(2)
    assert [(one.outcome, one.error_code, one.attempts) for one in requests] == [("refused", "upstream_refusal", 1)] * 2
