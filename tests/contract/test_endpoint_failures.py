"""Each class of failure, end to end: who serves instead, what the client sees, what the ledger says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pools.state import BreakerState
from pricing.clock import ScaledClock
from support.endpoint import (
    ASK,
    CHAT,
    KEYS,
    Endpoint,
    Policy,
    before_scripts,
    before_simulated,
    events,
    one_pool,
    policy,
)
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, Script, frame, text_frame

ALL = ("small", "mid", "other", "big")
GOOD = json.dumps({"choices": [{"index": 0, "message": {"content": '{"a": 1}'}, "finish_reason": "stop"}]}).encode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OBJECT: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def listed(**defaults: Any) -> Policy:
    """The policy in which `mid` is tried first, then `other`, then `big`."""
    found = policy(defaults={"reload_poll_s": 60, **defaults})
    found["classes"]["chat"]["objective"] = "listed"
    return found


def error(status: str, message: str, **more: Any) -> Script:
    """An engine that answers every request with one error."""
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, **more}}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body)

    return script


async def good(exchange: Exchange) -> None:
    """An engine that is well, streamed or not."""
    if not json.loads(exchange.request.body).get("stream"):
        await exchange.answer("200 OK", GOOD)
        return
    await exchange.start_stream()
    for chunk in (ROLE, text_frame("hi"), text_frame("", "stop"), DONE):
        await exchange.chunk(chunk)
    await exchange.end_stream()


def stream_of(*chunks: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in chunks:
            await exchange.chunk(chunk)
        await exchange.end_stream()

    return script


async def outcomes(endpoint: Endpoint) -> list[tuple[str, str, str]]:
    """(pool, outcome, who pays) of each attempt of the only request."""
    await endpoint.request()
    return [(row.pool, row.outcome, row.account) for row in endpoint.rows()]


# -- failures that move on ---------------------------------------------------------------------------------------------

MOVES: Mapping[str, tuple[Script, str]] = {
    "overloaded by status": (error("429 Too Many Requests", "slow down"), "overloaded"),
    "queue full": (error("503 Service Unavailable", "queue is full"), "overloaded"),
    "engine dead": (error("500 Internal Server Error", "EngineCore encountered an issue."), "unavailable"),
    "bad gateway": (error("502 Bad Gateway", ""), "unavailable"),
    "wrong credentials": (error("401 Unauthorized", "Unauthorized"), "misconfigured"),
    "no such model": (error("404 Not Found", "The model does not exist."), "misconfigured"),
    "not JSON": (stream_of(b"<html>"), "unavailable"),
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
    "engine dead at once": (stream_of(ENGINE_DIED, DONE), "unavailable"),
    "engine dead after the role": (stream_of(ROLE, ENGINE_DIED, DONE), "unavailable"),
    "queue full inside a 200": (stream_of(frame(error={"message": "full", "type": "x", "code": 503})), "overloaded"),
    "out of memory inside a 200": (
        stream_of(ROLE, frame(error={"message": "CUDA out of memory", "type": "x", "code": 500})),
        "out_of_memory",
    ),
    "nothing but DONE": (stream_of(DONE), "unavailable"),
    "cut after the role": (stream_of(ROLE), "unavailable"),
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
    empty = stream_of(ROLE, text_frame("", "stop"), DONE)
    async with before_scripts(tmp_path, {"mid": empty, "other": good, "big": good}, listed()) as endpoint:
        reply = await endpoint.chat(stream=True)
        assert b"hi" in reply.body
        assert await outcomes(endpoint) == [("mid", "bad_output", "acme"), ("big", "answered", "acme")]


async def test_a_stream_that_breaks_and_cannot_go_on_ends_with_an_error(tmp_path: Path) -> None:
    """What was said stands; an error event says that it broke, no `[DONE]` follows, and it counts as broken."""
    broken = stream_of(ROLE, text_frame("he"), ENGINE_DIED, DONE)
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


# -- the end of a chain ------------------------------------------------------------------------------------------------


async def test_when_all_fail_the_tries_are_listed(tmp_path: Path) -> None:
    """502 with each try's pool, GPU, class of failure and time; the headers say how many."""
    scripts = {name: error("500 Internal Server Error", "x") for name in ("mid", "other", "big")}
    async with before_scripts(tmp_path, scripts, listed(max_attempts=3)) as endpoint:
        reply = await endpoint.chat()
        request = await endpoint.request()
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (502, "chain_failed", "false")
    tries = reply.json["error"]["metadata"]["attempts"]
    assert [(one["pool"], one["gpu"], one["failure"], one["status"]) for one in tries] == [
        ("mid", "L4", "unavailable", 500),
        ("other", "A10", "unavailable", 500),
        ("big", "L40S", "unavailable", 500),
    ]
    assert (request.outcome, request.status, request.error_code, request.attempts) == (
        "refused",
        502,
        "chain_failed",
        3,
    )


async def test_a_chain_that_ran_out_of_time_is_a_504(tmp_path: Path) -> None:
    """When the last try timed out the status says so."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        await endpoint.fail("small", "hang", count=9)
        reply = await endpoint.chat(headers={"x-sluice-timeout-s": "3"})
    assert (reply.status, reply.code) == (504, "chain_timeout")


async def test_a_client_s_own_deadline_never_opens_a_breaker(tmp_path: Path) -> None:
    """However often a client gives up early, the pool stays in service for others."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        await endpoint.fail("small", "hang", count=6)
        for _ in range(6):
            await endpoint.chat(headers={"x-sluice-timeout-s": "1"})
        assert (await endpoint.chat(max_tokens=2)).status == 200


async def endless(exchange: Exchange) -> None:
    """A stream that brings a word every few milliseconds, or no answer at all."""
    if not json.loads(exchange.request.body).get("stream"):
        await exchange.client_left()
        return
    await exchange.start_stream()
    await exchange.chunk(ROLE)
    while True:
        await exchange.chunk(text_frame("w "))
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_s_own_deadline_is_paid_by_its_tenant_and_costs_nobody_the_pool(
    tmp_path: Path, streamed: bool
) -> None:
    """Also where the deadline lies beyond the first token: words were delivered, so they are charged."""
    files = one_pool(defaults={"first_token_timeout_s": 0.1, "breaker": {"failures": 1}})
    async with before_scripts(tmp_path, {"small": endless}, files) as endpoint:
        timeout = {"x-sluice-timeout-s": "0.5"}
        reply = await endpoint.chat(stream=streamed, headers=timeout)
        await endpoint.request()
        assert [row.account for row in endpoint.rows()] == ["acme"]
        assert endpoint.charged_nusd() > 0
        assert endpoint.service.live.state("small").breaker is BreakerState.CLOSED
    if streamed:
        assert events(reply.body)[-1]["error"]["code"] == "stream_broken"
    else:
        assert (reply.status, reply.code) == (504, "chain_timeout")


async def test_a_client_that_does_not_read_its_answer_pays_for_it(tmp_path: Path) -> None:
    """It is not the pool that was slow: no breaker counts it, and the tenant is charged."""
    clock = ScaledClock(5)

    async def flooding(exchange: Exchange) -> None:
        await exchange.start_stream()
        while True:
            await exchange.chunk(text_frame("w" * 60_000))

    files = one_pool(
        defaults={"first_byte_deadline_s": 4, "max_total_s": 5, "stall_timeout_s": 30, "breaker": {"failures": 1}}
    )
    async with before_scripts(tmp_path, {"small": flooding}, files, clock=clock) as endpoint:
        body = {"model": "chat", "messages": ASK, "stream": True}
        headers = {"Authorization": f"Bearer {KEYS['acme']}"}
        async with endpoint.session.post(endpoint.url + CHAT, json=body, headers=headers) as response:
            await response.content.readuntil(b"w")
            await clock.sleep(7)
            assert b"stream_broken" in await response.read()
        await endpoint.request()
        assert [(row.outcome, row.account) for row in endpoint.rows()] == [("client_gone", "acme")]
        assert endpoint.charged_nusd() > 0
        assert endpoint.service.live.state("small").breaker is BreakerState.CLOSED


async def test_a_request_that_every_pool_fails_takes_no_pool_but_one_from_others(tmp_path: Path) -> None:
    """The pool that is asked first may be suspected; those that fail alike after it may not."""

    async def script(exchange: Exchange) -> None:
        if b"logit_bias" in exchange.request.body:
            await error("500 X", "list index out of range", code=500)(exchange)
        else:
            await good(exchange)

    files = listed(max_attempts=3, breaker={"failures": 2}, retry_budget=1.0)
    async with before_scripts(tmp_path, dict.fromkeys(("mid", "other", "big"), script), files) as endpoint:
        for _ in range(2):
            assert (await endpoint.chat(logit_bias={"999999": 1})).status == 502
        found = [endpoint.service.live.state(pool).breaker for pool in ("mid", "other", "big")]
        assert found == [BreakerState.OPEN, BreakerState.CLOSED, BreakerState.CLOSED]
        assert (await endpoint.chat("globex")).status == 200


async def test_one_tenant_s_bad_requests_among_good_ones_open_no_breaker(tmp_path: Path) -> None:
    """Failures that a request may cause itself must be half of what ended at the pool."""

    async def script(exchange: Exchange) -> None:
        if b"logit_bias" in exchange.request.body:
            await error("500 X", "list index out of range", code=500)(exchange)
        else:
            await good(exchange)

    async with before_scripts(tmp_path, {"small": script}, one_pool(defaults={"breaker": {"failures": 2}})) as endpoint:
        for _ in range(5):
            assert (await endpoint.chat("globex")).status == 200
        for _ in range(2):
            await endpoint.chat(logit_bias={"999999": 1})
        assert (await endpoint.chat("globex")).status == 200


async def test_failures_open_a_breaker(tmp_path: Path) -> None:
    """After enough failures a pool is not tried any more, and the refusal says until when."""
    files = one_pool(defaults={"breaker": {"failures": 2}})
    async with before_scripts(tmp_path, {"small": error("500 X", "x")}, files) as endpoint:
        await endpoint.chat()
        reply = await endpoint.chat()
        asked = len(endpoint.upstream["small"].received)
    assert asked == 2  # the first request's own two tries
    assert (reply.status, reply.code) == (503, "no_capable_pool")
    assert 1 <= int(reply.headers["retry-after"]) <= 15
    assert reply.headers["x-should-retry"] == "true"


async def test_max_attempts_ends_a_chain(tmp_path: Path) -> None:
    """A policy that allows one attempt gets one."""
    async with before_scripts(tmp_path, dict.fromkeys(ALL, error("500 X", "x")), listed(max_attempts=1)) as endpoint:
        reply = await endpoint.chat()
    assert [one["pool"] for one in reply.json["error"]["metadata"]["attempts"]] == ["mid"]
    assert "max_attempts" in reply.json["error"]["message"]


async def test_a_chain_s_cost_limit_ends_it(tmp_path: Path) -> None:
    """What a hanging pool has cost leaves no room for another that would serve; the tenant was charged nothing."""
    files = listed(chain_cost_limit_usd=0.001, first_token_timeout_s=5)
    async with before_simulated(tmp_path, files, awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "hang")
        reply = await endpoint.chat(max_tokens=8)
        assert await outcomes(endpoint) == [("mid", "timeout", "__failed__")]
        [request] = await endpoint.requests(1)
    assert (reply.status, reply.code) == (504, "chain_timeout")
    refused = {one["pool"]: one["reason"] for one in json.loads(request.decisions_json)[-1]["rejected"]}
    assert (refused["other"], refused["mid"]) == ("chain_cost", "already_failed")


async def test_a_stated_cost_limit_holds_from_the_first_try(tmp_path: Path) -> None:
    """A pool whose boot alone would cost more than the limit is not even tried."""
    async with before_simulated(tmp_path, listed(chain_cost_limit_usd=0.00001)) as endpoint:
        reply = await endpoint.chat(max_tokens=8)
        routed = await endpoint.ask("POST", "/v1/route", json={"model": "chat", "messages": ASK, "max_tokens": 8})
    assert (reply.status, reply.code) == (503, "no_capable_pool")
    assert {one["reason"] for one in reply.json["error"]["metadata"]["rejected"]} == {"chain_cost"}
    assert routed.json["chosen"] is None


async def test_the_retry_budget_stops_storms(tmp_path: Path) -> None:
    """The first move to another pool is free; moves after it are refused once three requests are on one."""
    waiting = asyncio.Event()
    arrived = 0

    async def third(exchange: Exchange) -> None:
        nonlocal arrived
        arrived += 1
        await waiting.wait()
        await good(exchange)

    bad = error("500 Internal Server Error", "x")
    files = listed(retry_budget=0.0, breaker={"failures": 99})
    async with before_scripts(tmp_path, {"mid": bad, "other": bad, "big": third}, files) as endpoint:
        asked = [asyncio.create_task(endpoint.chat()) for _ in range(5)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 2:
            more, _ = await asyncio.wait(set(asked) - done, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        waiting.set()
        replies = [await task for task in asked]
    assert arrived == 3
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 502, 502]
    assert all("retried" in task.result().json["error"]["message"] for task in done)


async def test_a_second_try_on_the_same_pool_draws_on_the_retry_budget(tmp_path: Path) -> None:
    """Only a move to another pool is free."""
    waiting = asyncio.Event()
    tries = 0

    async def twice(exchange: Exchange) -> None:
        nonlocal tries
        tries += 1
        if tries <= 4:
            await error("500 X", "x")(exchange)
        else:
            await waiting.wait()
            await good(exchange)

    files = one_pool(defaults={"retry_budget": 0.0, "breaker": {"failures": 99}})
    async with before_scripts(tmp_path, {"small": twice}, files) as endpoint:
        asked = [asyncio.create_task(endpoint.chat()) for _ in range(4)]
        [refused], _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        waiting.set()
        statuses = sorted([(await task).status for task in asked])
    assert refused.result().status == 502
    assert statuses == [200, 200, 200, 502]


# -- cold pools --------------------------------------------------------------------------------------------------------


async def test_a_sleeping_pool_is_woken_once_for_all_who_wait(tmp_path: Path) -> None:
    """Six requests that come while a pool sleeps start one container, and are all served."""
    async with before_simulated(tmp_path, one_pool()) as endpoint:
        replies = await asyncio.gather(*[endpoint.chat(max_tokens=2) for _ in range(6)])
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert [reply.status for reply in replies] == [200] * 6
    assert {reply.headers["x-sluice-attempts"] for reply in replies} == {"1"}
    assert len(containers) == 1


async def test_a_pool_that_lost_its_container_is_woken_again(tmp_path: Path) -> None:
    """Without a platform's list a bare 503 is how it shows: the request waits for a new container, and is served."""
    lost = True

    async def loses(exchange: Exchange) -> None:
        nonlocal lost
        if exchange.request.method == "GET":
            await exchange.answer("200 OK", b"{}")
        elif lost:
            lost = False
            await exchange.answer("503 Service Unavailable", b"", "text/plain")
        else:
            await good(exchange)

    async with before_scripts(tmp_path, {"small": loses}, one_pool(), asleep=("small",)) as endpoint:
        await endpoint.wake("small")
        reply = await endpoint.chat(max_tokens=2)
        asked = [received.method for received in endpoint.upstream["small"].received]
    assert (reply.status, reply.headers["x-sluice-attempts"]) == (200, "2")
    assert asked == ["GET", "POST", "GET", "POST"]


async def test_a_boot_longer_than_the_deadline_is_answered_at_once(tmp_path: Path) -> None:
    """503 `model_warming` with the boot's length in Retry-After, while the pool is woken; then it serves."""
    files = one_pool(defaults={"first_byte_deadline_s": 20})
    files["pools"]["small"]["boot_s"] = 40
    async with before_simulated(tmp_path, files) as endpoint:
        reply = await endpoint.chat(max_tokens=2)
        await endpoint.wake("small")
        served = await endpoint.chat(max_tokens=2)
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert (reply.status, reply.code) == (503, "model_warming")
    assert int(reply.headers["retry-after"]) == 40
    assert reply.headers["x-should-retry"] == "true"
    assert served.status == 200
    assert len(containers) == 1


async def test_a_client_s_short_deadline_is_not_waited_through(tmp_path: Path) -> None:
    """A client that gives a cold pool less than its boot is told at once to come back."""
    files = one_pool()
    files["pools"]["small"]["boot_s"] = 40
    async with before_simulated(tmp_path, files) as endpoint:
        reply = await endpoint.chat(max_tokens=2, headers={"x-sluice-timeout-s": "10"})
    assert (reply.status, reply.code) == (503, "model_warming")


async def test_warming_up_ahead_needs_the_right_and_answers_at_once(tmp_path: Path) -> None:
    """`/warmup` says which pool a model name wakes and when it is ready; asking again wakes nothing more."""
    async with before_simulated(tmp_path) as endpoint:
        first = await endpoint.ask("POST", "/warmup", "ops", json={"model": "text"})
        again = await endpoint.ask("GET", "/warmup?pool=small", "ops")
        await endpoint.wake("small")
        ready = await endpoint.ask("POST", "/warmup", "ops", json={"pool": "small"})
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert first.json == {"pool": "small", "status": "starting", "expected_ready_in_s": 1.0}
    assert again.json["status"] == "starting"
    assert ready.json == {"pool": "small", "status": "ready", "expected_ready_in_s": 0.0}
    assert len(containers) == 1
