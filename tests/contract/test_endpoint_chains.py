"""Where a chain of tries ends (deadlines, breakers, attempts, costs, retry budgets), and what clients are told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pools.live.state import BreakerState
from pricing.clock import ScaledClock
from support.endpoint import ASK, CHAT, KEYS, before_scripts, before_simulated, events, one_pool
from support.failing_pools import ALL, error, good, listed, outcomes
from support.scripted_server import ROLE, Exchange, text_frame


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
