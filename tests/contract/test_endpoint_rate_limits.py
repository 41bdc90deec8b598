"""Rate limits and budgets as clients see them: who is refused, what is told, and what official clients make of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import DefaultAsyncHttpxClient

from support.endpoint import ASK, KEYS, SPEEDUP, Endpoint, Policy, Reply, before_simulated, events, one_pool, policy

SHORT: dict[str, Any] = {"max_tokens": 4, "sim_output_tokens": 4}
MINUTE_S = 60.0


def limited(*, key: dict[str, Any] | None = None, **limits: Any) -> Policy:
    """One pool, and limits on the tenant acme or its key."""
    files = one_pool()
    files["tenants"]["acme"]["limits"] = limits
    files["tenants"]["acme"]["keys"][0]["limits"] = key or {}
    return files


def rate_headers(reply: Reply) -> dict[str, str]:
    found = {name.lower(): value for name, value in reply.headers.items()}
    return {name.removeprefix("x-ratelimit-"): found[name] for name in found if name.startswith("x-ratelimit-")}


async def use(endpoint: Endpoint) -> dict[str, int]:
    """How much of each limit `/budgets` says is used."""
    answer = await endpoint.ask("GET", "/budgets", "ops")
    return {f"{one['scope']} {one['dimension']}": one["used"] for one in answer.json["limits"]}


# -- who is refused ----------------------------------------------------------------------------------------------------


async def test_two_hundred_at_once_pass_exactly_the_limit(tmp_path: Path) -> None:
    """However they interleave: of 200 requests that come together, the limit's number is answered, none beyond."""
    async with before_simulated(tmp_path, limited(requests_per_minute=37), speedup=1, awake=("small",)) as endpoint:
        replies = await asyncio.gather(*(endpoint.chat(**SHORT) for _ in range(200)))
    refused = [reply for reply in replies if reply.status == 429]
    assert (sum(reply.status == 200 for reply in replies), len(refused)) == (37, 163)
    assert {reply.code for reply in refused} == {"rate_limit_exceeded"}


async def test_a_refusal_names_the_limit_and_when_it_fits(tmp_path: Path) -> None:
    """OpenAI's code and type, whose limit it is, and how long to wait, in seconds and milliseconds."""
    async with before_simulated(tmp_path, limited(requests_per_minute=1), awake=("small",)) as endpoint:
        await endpoint.chat(**SHORT)
        reply = await endpoint.chat(**SHORT)
        others = await endpoint.chat("globex", **SHORT)
        request = (await endpoint.requests(3))[1]
    error = reply.json["error"]
    assert (reply.status, error["code"], error["type"]) == (429, "rate_limit_exceeded", "requests")
    assert error["message"].startswith("rate limit of tenant `acme`: needs 1, 0 of 1 requests per minute are left")
    assert error["metadata"] == {"scope": "tenant:acme", "dimension": "requests", "limit": 1}
    assert reply.headers["x-should-retry"] == "true"
    assert 50 <= int(reply.headers["retry-after"]) <= 60
    assert 0 <= int(reply.headers["retry-after"]) * 1000 - int(reply.headers["retry-after-ms"]) < 1000
    assert rate_headers(reply)["remaining-requests"] == "0"
    assert (others.status, rate_headers(others)) == (200, {})
    assert (request.outcome, request.error_code, request.attempts) == ("refused", "rate_limit_exceeded", 0)


async def test_a_key_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """Whichever is reached first refuses; the message says whose it was."""
    files = limited(requests_per_minute=5, key={"tokens_per_minute": 3})
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        reply = await endpoint.chat(**SHORT)
    error = reply.json["error"]
    assert (error["code"], error["type"], reply.headers["x-should-retry"]) == ("rate_limit_exceeded", "tokens", "false")
    assert "key `acme-key`: needs" in error["message"]
    assert "the whole limit is 3 per minute" in error["message"]
    assert "retry-after" not in reply.headers


async def test_requests_in_flight_are_limited_and_come_free_when_they_end(tmp_path: Path) -> None:
    """Of ten at once two run; after them, others may."""
    long: dict[str, Any] = {"max_tokens": 400, "sim_output_tokens": 400}
    async with before_simulated(tmp_path, limited(in_flight=2), awake=("small",)) as endpoint:
        replies = await asyncio.gather(*(endpoint.chat(**long) for _ in range(10)))
        after = await endpoint.chat(**SHORT)
    assert sorted(reply.status for reply in replies) == [200] * 2 + [429] * 8
    refused = next(reply for reply in replies if reply.status == 429)
    assert "2 of 2 requests are in flight" in refused.json["error"]["message"]
    assert after.status == 200


async def test_a_chain_counts_once(tmp_path: Path) -> None:
    """A request that is tried on two pools is one request, also for what is in flight."""
    files = policy()
    files["classes"]["chat"]["default_tier"] = "economy"
    files["tenants"]["acme"]["limits"] = {"requests_per_minute": 1, "in_flight": 1}
    async with before_simulated(tmp_path, files, awake=("small", "mid")) as endpoint:
        await endpoint.fail("small", "refuse", count=9)
        reply = await endpoint.chat(**SHORT)
        used = await use(endpoint)
    assert (reply.status, reply.headers["x-sluice-attempts"]) == (200, "2")
    assert used == {"tenant:acme requests": 1, "tenant:acme in_flight": 0}


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_tokens_are_corrected_to_what_usage_says(tmp_path: Path) -> None:
    """Held with what the answer is expected to be, settled with what it was, streamed or not."""
    async with before_simulated(tmp_path, limited(tokens_per_minute=10_000), awake=("small",)) as endpoint:
        whole = await endpoint.chat(**SHORT)
        stream = await endpoint.chat(stream=True, stream_options={"include_usage": True}, **SHORT)
        used = await use(endpoint)
    usages = [whole.json["usage"], events(stream.body)[-2]["usage"]]
    assert used == {"tenant:acme tokens": sum(usage["total_tokens"] for usage in usages)}
    counted = 10_000 - int(rate_headers(whole)["remaining-tokens"])
    assert counted >= usages[0]["total_tokens"]


async def test_tokens_of_what_the_house_pays_for_are_given_back(tmp_path: Path) -> None:
    """A request that failed by no fault of its tenant took none."""
    async with before_simulated(tmp_path, limited(tokens_per_minute=10_000), awake=("small",)) as endpoint:
        await endpoint.fail("small", "refuse", count=9)
        reply = await endpoint.chat(**SHORT)
        used = await use(endpoint)
    assert reply.status == 502
    assert used == {"tenant:acme tokens": 0}


# -- headers -----------------------------------------------------------------------------------------------------------


async def test_every_answer_says_how_its_limits_stand(tmp_path: Path) -> None:
    """The tightest of tenant and key, as OpenAI writes it."""
    files = limited(requests_per_minute=100, tokens_per_minute=10_000, key={"requests_per_minute": 2})
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        first = rate_headers(await endpoint.chat(**SHORT))
        second = rate_headers(await endpoint.chat(stream=True, **SHORT))
    assert (first["limit-requests"], first["remaining-requests"]) == ("2", "1")
    assert (second["limit-requests"], second["remaining-requests"]) == ("2", "0")
    assert first["limit-tokens"] == "10000"
    assert int(first["remaining-tokens"]) > int(second["remaining-tokens"]) > 0
    assert first["reset-requests"] in {"1m0s", *(f"1m{seconds}s" for seconds in range(6))}


async def test_the_tightest_budget_is_told(tmp_path: Path) -> None:
    """After a whole answer to the nano-dollar; with a stream's headers, what its hold leaves."""
    files = one_pool()
    files["tenants"]["acme"]["caps"] = [
        {"name": "day", "amount_usd": 1, "window": "24h"},
        {"name": "month", "amount_usd": 5, "window": "1mo"},
    ]
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        whole = await endpoint.chat(**SHORT)
        spent_nusd = endpoint.charged_nusd()
        stream = await endpoint.chat(stream=True, **SHORT)
        free = await endpoint.chat("globex", **SHORT)
    name = "x-sluice-budget-remaining-usd"
    assert whole.headers[name] == f"{1 - spent_nusd / 10**9:.9f}"
    assert float(stream.headers[name]) < float(whole.headers[name])
    assert name not in free.headers


async def test_a_lowered_tier_says_which_budget_lowered_it(tmp_path: Path) -> None:
    """In a header, in the decision, and counted."""
    low = {"name": "day", "amount_usd": 1, "window": "24h", "thresholds": {"lower_tier": "0.1%"}}
    files = policy()
    files["tenants"]["acme"]["caps"] = [low]
    async with before_simulated(tmp_path, files, awake=("small", "mid")) as endpoint:
        while True:
            reply = await endpoint.chat(max_tokens=200, sim_output_tokens=200)
            if "x-sluice-tier-lowered" in reply.headers:
                break
        past = await endpoint.ask("GET", f"/v1/decisions/{reply.headers['x-sluice-request-id']}")
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
    assert reply.headers["x-sluice-tier-lowered"] == "budget acme/day"
    assert past.json["decisions"][-1]["tier"] == "economy"
    assert past.json["decisions"][-1]["tier_lowered_by"] == "acme/day"
    assert 'sluice_tier_lowered_total{class="chat"} 1.0' in metrics


async def test_economy_is_advised_only_where_it_would_fit(tmp_path: Path) -> None:
    """A refused request hears of a cheaper tier when one has room for it, and not otherwise."""
    files = policy(defaults={"output_bound_default": 64})
    files["tenants"]["acme"]["caps"] = [{"name": "day", "amount_usd": 0, "window": "24h"}]
    async with before_simulated(tmp_path, files, awake=("small", "mid")) as endpoint:
        reply = await endpoint.chat(**SHORT)
    assert "raise it" in reply.json["error"]["message"]
    assert "economy" not in reply.json["error"]["message"]


# -- what operators see ------------------------------------------------------------------------------------------------


async def test_budgets_show_limits_to_whom_they_concern(tmp_path: Path) -> None:
    """A tenant sees its own and its key's; an admin sees all; the metric says by what was refused."""
    files = limited(requests_per_minute=1, key={"in_flight": 3})
    files["tenants"]["globex"]["limits"] = {"tokens_per_minute": 500}
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        for _ in range(3):
            await endpoint.chat(**SHORT)
        own = (await endpoint.ask("GET", "/budgets")).json["limits"]
        every = (await endpoint.ask("GET", "/budgets", "ops")).json["limits"]
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
    assert [(one["scope"], one["dimension"], one["limit"], one["used"], one["remaining"]) for one in own] == [
        ("tenant:acme", "requests", 1, 1, 0),
        ("key:acme-key", "in_flight", 3, 0, 3),
    ]
    assert own[0]["resets_in_s"] > 50
    assert own[1]["resets_in_s"] is None
    assert [one["scope"] for one in every] == ["tenant:acme", "key:acme-key", "tenant:globex"]
    assert 'sluice_rate_limited_total{dimension="requests"} 2.0' in metrics


# -- official clients --------------------------------------------------------------------------------------------------


async def test_the_official_client_waits_and_is_then_served(tmp_path: Path) -> None:
    """Refused, it comes back after `retry-after-ms`, with no code of the caller's own."""
    waits: list[float] = []

    async def hasten(response: httpx.Response) -> None:
        """The endpoint's clock is faster than that of the client, which sleeps in real time."""
        if "retry-after-ms" in response.headers:
            waits.append(float(response.headers["retry-after-ms"]) / 1000)
            response.headers["retry-after-ms"] = f"{waits[-1] * 1000 / SPEEDUP:.0f}"

    async with before_simulated(tmp_path, limited(requests_per_minute=1), awake=("small",)) as endpoint:
        transport = DefaultAsyncHttpxClient(event_hooks={"response": [hasten]})
        async with endpoint.client(http_client=transport) as client:
            for _ in range(2):
                answer = await client.chat.completions.create(model="chat", messages=ASK, max_tokens=4)
                assert answer.choices[0].message.content
        summaries = await endpoint.requests(3)
    assert waits[0] > MINUTE_S - 10
    assert [row.outcome for row in summaries].count("served") == 2


async def test_the_official_client_does_not_repeat_what_never_fits(tmp_path: Path) -> None:
    """More tokens than the whole limit: its error says so at once."""
    async with before_simulated(tmp_path, limited(tokens_per_minute=3), awake=("small",)) as endpoint:
        with pytest.raises(openai.RateLimitError, match="the whole limit is 3 per minute") as refused:
            await endpoint.client(KEYS["acme"]).chat.completions.create(model="chat", messages=ASK, max_tokens=4)
        requests = await endpoint.requests(1)
    assert (refused.value.code, len(requests)) == ("rate_limit_exceeded", 1)
