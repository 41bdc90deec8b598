"""Each class of failure, end to end: who serves instead, what the client sees, what the ledger says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.backends import streaming
from support.endpoint import before_scripts, before_simulated, events
from support.failing_pools import GOOD, error, good, listed, outcomes
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, Script, frame, text_frame

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OBJECT: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


# -- failures that move on ---------------------------------------------------------------------------------------------

MOVES: Mapping[str, tuple[Script, str]] = {
    "overloaded by status": (error("429 Too Many Requests", "slow down"), "overloaded"),
    "queue full": (error("503 Service Unavailable", "queue is full"), "overloaded"),
    "engine dead": (error("500 Internal Server Error", "EngineCore encountered an issue."), "unavailable"),
    "bad gateway": (error("502 Bad Gateway", ""), "unavailable"),
    "wrong credentials": (error("401 Unauthorized", "Unauthorized"), "misconfigured"),
    "no such model": (error("404 Not Found", "The model does not exist."), "misconfigured"),
    "not JSON": (streaming(b"<html>"), "unavailable"),
    "invalid UTF-8": (
        lambda exchange: exchange.answer("200 OK", GOOD.replace(b"{\\", b"\xff{\\")),
        "unavailable",
    ),
    "without a finish": (lambda exchange: exchange.answer("200 OK", GOOD.replace(b'"stop"', b"null")), "unavailable"),
}


@pytest.mark.parametrize("name", MOVES)
async def test_the_next_pool_serves_and_the_house_pays_for_the_first(tmp_path: Path, name: str) -> None:
    """A pool that fails before its answer is replaced without the client's noticing more than the time."""
    script, failure = MOVES[name]
    async with before_scripts(tmp_path, {"mid": script, "other": good, "big": good}, listed()) as endpoint:
        reply = await endpoint.chat()
        assert (reply.status, reply.headers["x-sluice-pool"], reply.headers["x-sluice-attempts"]) == (200, "other", "2")
        assert await outcomes(endpoint) == [("mid", failure, "__failed__"), ("other", "answered", "acme")]
        [request] = await endpoint.requests(1)
    assert (request.outcome, request.attempts, request.pool) == ("served", 2, "other")


IN_STREAM: Mapping[str, tuple[Script, str]] = {
    "engine dead at once": (streaming(ENGINE_DIED, DONE), "unavailable"),
    "engine dead after the role": (streaming(ROLE, ENGINE_DIED, DONE), "unavailable"),
    "queue full inside a 200": (streaming(frame(error={"message": "full", "type": "x", "code": 503})), "overloaded"),
    "out of memory inside a 200": (
        streaming(ROLE, frame(error={"message": "CUDA out of memory", "type": "x", "code": 500})),
        "out_of_memory",
    ),
    "nothing but DONE": (streaming(DONE), "unavailable"),
    "cut after the role": (streaming(ROLE), "unavailable"),
    "not a stream": (lambda exchange: exchange.answer("200 OK", GOOD), "unavailable"),
}


@pytest.mark.parametrize("name", IN_STREAM)
async def test_a_stream_that_fails_before_its_first_word_is_replaced(tmp_path: Path, name: str) -> None:
    """Status 200 and a role prove nothing: until something is said, another pool may still say it."""
    script, failure = IN_STREAM[name]
    async with before_scripts(tmp_path, {"mid": script, "big": good}, listed()) as endpoint:
        reply = await endpoint.chat(stream=True)
        assert reply.body.endswith(DONE)
        assert b"error" not in reply.body
        assert await outcomes(endpoint) == [("mid", failure, "__failed__"), ("big", "answered", "acme")]


async def test_an_empty_stream_is_no_answer(tmp_path: Path) -> None:
    """A stream that stops without a word is bad output: a higher tier is asked, and the tenant pays for both."""
    empty = streaming(ROLE, text_frame("", "stop"), DONE)
    async with before_scripts(tmp_path, {"mid": empty, "other": good, "big": good}, listed()) as endpoint:
        reply = await endpoint.chat(stream=True)
        assert b"hi" in reply.body
        assert await outcomes(endpoint) == [("mid", "bad_output", "acme"), ("big", "answered", "acme")]


async def test_a_stream_that_breaks_and_cannot_go_on_ends_with_an_error(tmp_path: Path) -> None:
    """What was said stands; an error event says that it broke, no `[DONE]` follows, and it counts as broken."""
    broken = streaming(ROLE, text_frame("he"), ENGINE_DIED, DONE)
    async with before_scripts(tmp_path, {"mid": broken, "other": good}, listed()) as endpoint:
        reply = await endpoint.chat(stream=True, echo=True)
        assert await outcomes(endpoint) == [("mid", "unavailable", "__failed__")]
        [request] = await endpoint.requests(1)
    *said, last = events(reply.body)
    assert [choice["delta"].get("content") for event in said for choice in event["choices"]] == ["", "he"]
    assert last["error"]["code"] == "stream_broken"
    assert [one["failure"] for one in last["error"]["metadata"]["attempts"]] == ["unavailable"]
    assert (request.outcome, request.error_code, request.status) == ("broken", "stream_broken", 200)


async def test_a_connection_that_resets_after_words_ends_the_body_cleanly(tmp_path: Path) -> None:
    """The client gets the error event, and a clean end of the body, also when the pool's end was none."""

    async def resets(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame("he"))
        exchange.reset()

    async with before_scripts(tmp_path, {"mid": resets, "other": good}, listed()) as endpoint:
        reply = await endpoint.chat(stream=True, echo=True)
    assert reply.complete
    assert events(reply.body)[-1]["error"]["code"] == "stream_broken"


async def test_an_answer_whose_end_is_lost_is_complete(tmp_path: Path) -> None:
    """Once the finish reason was seen the answer is whole, whatever the connection does afterwards."""

    async def resets(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame("hello", "stop"))
        exchange.reset()

    async with before_scripts(tmp_path, {"mid": resets}, listed()) as endpoint:
        reply = await endpoint.chat(stream=True)
        assert (await endpoint.request()).outcome == "served"
    assert reply.body.endswith(DONE)


# -- which pool is next ------------------------------------------------------------------------------------------------


async def test_after_out_of_memory_a_pool_with_more_memory_serves(tmp_path: Path) -> None:
    """The next pool has more free memory; requests of that size stay away from the first, smaller ones do not."""
    async with before_simulated(tmp_path, listed(), awake=("mid", "other", "big")) as endpoint:
        await endpoint.fail("mid", "out_of_memory", count=9, min_total_tokens=3_000)
        first = await endpoint.chat(max_tokens=4_000, sim_output_tokens=3)
        again = await endpoint.chat(max_tokens=4_000, sim_output_tokens=3)
        smaller = await endpoint.chat(max_tokens=500, sim_output_tokens=3)
        rows = [(row.pool, row.outcome) for row in endpoint.rows()]
    assert [reply.headers["x-sluice-pool"] for reply in (first, again, smaller)] == ["big", "other", "mid"]
    assert rows == [("mid", "out_of_memory"), ("big", "answered"), ("other", "answered"), ("mid", "answered")]


async def test_a_context_that_was_too_short_moves_to_a_longer_one(tmp_path: Path) -> None:
    """The engine counted more tokens than we did: the next pool has a longer context, and the tenant pays."""
    text = "This model's maximum context length is 8192 tokens."
    scripts = {"mid": error("400 Bad Request", text, code=400, param="input_tokens"), "other": good, "big": good}
    async with before_scripts(tmp_path, scripts, listed()) as endpoint:
        assert (await endpoint.chat()).headers["x-sluice-pool"] == "big"
        assert await outcomes(endpoint) == [("mid", "context_overflow", "acme"), ("big", "answered", "acme")]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_proxy_s_page_is_put_into_words_that_clients_read(tmp_path: Path, streamed: bool) -> None:
    """A 4xx that is no engine's error object keeps its status and gets an error object of ours."""

    async def proxy(exchange: Exchange) -> None:
        await exchange.answer("413 Request Entity Too Large", b"<html>nginx</html>", "text/html")

    async with before_scripts(tmp_path, {"mid": proxy, "other": good}, listed()) as endpoint:
        reply = await endpoint.chat(stream=streamed)
        assert await outcomes(endpoint) == [("mid", "client_error", "acme")]
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (413, "upstream_refusal", "false")
    assert "HTTP 413" in reply.json["error"]["message"]


@pytest.mark.parametrize("status", [400, 408, 425, 431, 499])
async def test_a_proxy_that_refuses_is_left_for_another_pool(tmp_path: Path, status: int) -> None:
    """Its page says nothing about the request, so the house pays and the next pool answers."""

    async def proxy(exchange: Exchange) -> None:
        await exchange.answer(f"{status} X", b"<html>nginx</html>", "text/html")

    async with before_scripts(tmp_path, {"mid": proxy, "other": good}, listed()) as endpoint:
        assert (await endpoint.chat()).headers["x-sluice-pool"] == "other"
        assert await outcomes(endpoint) == [("mid", "unavailable", "__failed__"), ("other", "answered", "acme")]


async def test_json_that_breaks_the_schema_moves_to_a_higher_tier(tmp_path: Path) -> None:
    """Half an object is no answer to a schema; the tenant pays for the try."""
    async with before_simulated(tmp_path, listed(), awake=("mid", "other", "big")) as endpoint:
        await endpoint.fail("mid", "bad_json")
        reply = await endpoint.chat(response_format=OBJECT)
        assert await outcomes(endpoint) == [("mid", "bad_output", "acme"), ("big", "answered", "acme")]
    assert "a" in json.loads(reply.json["choices"][0]["message"]["content"])


async def test_an_answer_that_no_pool_can_give_is_a_schema_violation(tmp_path: Path) -> None:
    """When every tier breaks the schema the client is told so, and not to repeat it."""
    bad = GOOD.replace(b'\\"a\\"', b'\\"b\\"')
    scripts: Any = dict.fromkeys(("mid", "big"), lambda exchange: exchange.answer("200 OK", bad))
    async with before_scripts(tmp_path, scripts, listed()) as endpoint:
        reply = await endpoint.chat(response_format=OBJECT)
    assert (reply.status, reply.code) == (502, "schema_violation")
    assert reply.headers["x-should-retry"] == "false"
    assert "rule 'required'" in reply.json["error"]["metadata"]["attempts"][0]["detail"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_pool_that_hangs_is_left_for_another(tmp_path: Path, streamed: bool) -> None:
    """No first token in time: the attempt ends, its work is cancelled, another pool serves."""
    async with before_simulated(tmp_path, listed(first_token_timeout_s=5), awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "hang")
        reply = await endpoint.chat(stream=streamed, max_tokens=3)
        assert await outcomes(endpoint) == [("mid", "timeout", "__failed__"), ("other", "answered", "acme")]
        mid, other = endpoint.rows()
    assert reply.status == 200
    assert mid.duration_us >= 5_000_000
    assert mid.amount_nusd > other.amount_nusd


async def test_a_stall_between_tokens_is_a_timeout(tmp_path: Path) -> None:
    """Tokens, and then silence longer than `stall_timeout_s`: another pool goes on."""
    async with before_simulated(tmp_path, listed(stall_timeout_s=5), awake=("mid",)) as endpoint:
        await endpoint.fail("mid", "stall", after_tokens=4)
        reply = await endpoint.chat(stream=True, max_tokens=50)
        assert await outcomes(endpoint) == [("mid", "timeout", "__failed__"), ("other", "answered", "acme")]
    assert events(reply.body)[-1] == "[DONE]"
