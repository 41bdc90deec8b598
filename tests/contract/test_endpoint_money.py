"""Money, end to end: what a client is told, what its tenant paid, what the house carries, what caps stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.rows import RowKind
from support.endpoint import ASK, Endpoint, Policy, before_simulated, events, one_pool, policy

LONG: dict[str, Any] = {"max_tokens": 1_200, "sim_output_tokens": 1_200}
SHORT: dict[str, Any] = {"max_tokens": 5}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def capped(amount_usd: str, **more: Any) -> Policy:
    """One pool, and a tenant with so many dollars a day."""
    cap = {"name": "day", "amount_usd": amount_usd, "window": "24h", "scope": "tenant:acme"}
    return one_pool(caps=[cap], **more)


ENOUGH_TO_BEGIN = "0.005"  # more than what 200 tokens should cost, far less than 1,200 do


def nusd(usd: str) -> int:
    return round(float(usd) * 10**9)


# -- caps --------------------------------------------------------------------------------------------------------------


async def test_a_stream_that_outgrows_its_budget_is_cut(tmp_path: Path) -> None:
    """It ends with an error event and without `[DONE]`; the tenant pays no more than the cap, the house the rest."""
    async with before_simulated(tmp_path, capped(ENOUGH_TO_BEGIN), awake=("small",)) as endpoint:
        reply = await endpoint.chat(stream=True, **LONG)
        request = await endpoint.request()
        rows = endpoint.rows()
        [cap] = (await endpoint.ask("GET", "/budgets")).json["data"]
    *said, last = events(reply.body)
    assert reply.complete
    assert len(said) > 2
    assert (last["error"]["code"], last["error"]["type"]) == ("budget_exceeded", "insufficient_quota")
    assert (request.outcome, request.error_code) == ("refused", "budget_exceeded")
    paid = [row for row in rows if row.kind is RowKind.ATTEMPT]
    overrun = [row for row in rows if row.kind is RowKind.OVERRUN]
    assert [row.outcome for row in paid] == ["cut"]
    assert 0 < paid[0].amount_nusd <= nusd(ENOUGH_TO_BEGIN)
    assert paid[0].metered_nusd == sum(row.amount_nusd for row in rows)
    assert all(row.account == "__overrun__" for row in overrun)
    assert round(cap["spent_usd"] * 10**9) == paid[0].amount_nusd
    assert cap["held_usd"] == 0


async def test_an_answer_that_is_not_streamed_is_cut_with_a_429(tmp_path: Path) -> None:
    """Nothing has been sent yet, so the status says it; the client is told not to repeat it."""
    async with before_simulated(tmp_path, capped(ENOUGH_TO_BEGIN), awake=("small",)) as endpoint:
        reply = await endpoint.chat(**LONG)
        [row, *_] = endpoint.rows()
    assert (reply.status, reply.code) == (429, "budget_exceeded")
    assert reply.headers["x-should-retry"] == "false"
    assert 0 < row.amount_nusd <= nusd(ENOUGH_TO_BEGIN)


async def test_under_finish_the_answer_is_completed(tmp_path: Path) -> None:
    """`on_exhausted: finish`: the client gets all of it and its tenant pays all of it, above the cap."""
    files = capped(ENOUGH_TO_BEGIN, defaults={"on_exhausted": "finish"})
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        reply = await endpoint.chat(stream=True, **LONG)
        refused = await endpoint.chat(**SHORT)
        rows = endpoint.rows()
    assert events(reply.body)[-1] == "[DONE]"
    assert [row.kind for row in rows] == [RowKind.ATTEMPT]
    assert rows[0].amount_nusd == rows[0].metered_nusd > nusd(ENOUGH_TO_BEGIN)
    assert (refused.status, refused.code) == (429, "budget_exceeded")


async def test_a_spent_budget_is_refused_with_its_numbers(tmp_path: Path) -> None:
    """The message names the cap, what is needed, what is left and until when; Retry-After is that instant."""
    async with before_simulated(tmp_path, capped("0.001"), awake=("small",)) as endpoint:
        for _ in range(100):
            reply = await endpoint.chat(**SHORT)
            if reply.status != 200:
                break
        spent = endpoint.charged_nusd()
    error = reply.json["error"]
    assert (reply.status, error["code"], error["type"]) == (429, "budget_exceeded", "insufficient_quota")
    assert error["metadata"] == {"cap": "acme/day", "window": "24h"}
    assert "acme/day" in error["message"]
    assert 80_000 <= int(reply.headers["retry-after"]) <= 86_400 + 900
    assert 0 < spent <= nusd("0.001")


@pytest.mark.parametrize(
    "scope", ["key:acme-key", "class:chat", "pool:small", "endpoint:/v1/chat/completions", "tag:team"]
)
async def test_caps_of_every_scope_refuse(tmp_path: Path, scope: str) -> None:
    """A cap of 0 on the key, the class, the pool, the route or a tag lets nothing through."""
    files = one_pool(caps=[{"name": "none", "amount_usd": 0, "window": "1mo", "scope": scope}])
    files["tenants"]["acme"]["tags"] = ["team"]
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        reply = await endpoint.chat(**SHORT)
    assert (reply.status, reply.code) == (429, "budget_exceeded")
    assert "retry-after" not in reply.headers  # waiting does not help a cap of 0


async def test_other_tenants_do_not_feel_a_spent_budget(tmp_path: Path) -> None:
    """A cap is its tenant's own."""
    async with before_simulated(tmp_path, capped("0.000000001"), awake=("small",)) as endpoint:
        statuses = [(await endpoint.chat(key, **SHORT)).status for key in ("acme", "globex")]
    assert statuses == [429, 200]


async def test_a_budget_that_runs_low_lowers_the_tier(tmp_path: Path) -> None:
    """Past its threshold a cap sends requests one tier down, except to a pool that was named."""
    low = {
        "name": "day",
        "amount_usd": 1,
        "window": "24h",
        "scope": "tenant:acme",
        "thresholds": {"lower_tier": "0.1%"},
    }
    files = policy(caps=[low])
    files["classes"]["chat"]["objective"] = "listed"
    async with before_simulated(tmp_path, files, awake=("small", "mid", "big")) as endpoint:
        before = await endpoint.chat(max_tokens=300, sim_output_tokens=300)
        after = await endpoint.chat(**SHORT)
        pinned = await endpoint.chat(model="big", **SHORT)
    assert [reply.headers["x-sluice-pool"] for reply in (before, after, pinned)] == ["mid", "small", "big"]


# -- who pays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("payer", "accounts"), [("house", ["__failed__", "acme"]), ("tenant", ["acme", "acme"])])
async def test_the_policy_says_who_pays_for_failed_attempts(tmp_path: Path, payer: str, accounts: list[str]) -> None:
    """The same failure, paid by the house or by the tenant, is metered and shown either way."""
    files = policy(failed_attempts={"unavailable": payer})
    files["classes"]["chat"]["objective"] = "listed"
    async with before_simulated(tmp_path, files, awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "crash_mid_stream", after_tokens=0)
        reply = await endpoint.chat(**SHORT)
        rows = endpoint.rows()
    assert reply.status == 200
    assert [row.account for row in rows] == accounts
    assert all(row.amount_nusd == row.metered_nusd > 0 for row in rows)
    assert [row.tenant for row in rows] == ["acme", "acme"]
    assert round(float(reply.headers["x-sluice-cost-usd"]) * 10**9) == sum(
        row.amount_nusd for row in rows if row.account == "acme"
    )


async def test_the_tenant_pays_for_answers_that_were_no_good(tmp_path: Path) -> None:
    """JSON that broke the schema was made for the client's request: by default its tenant pays both tries."""
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    async with before_simulated(tmp_path, awake=("mid", "other", "big")) as endpoint:
        for pool in ("mid", "other"):
            await endpoint.fail(pool, "bad_json")
        reply = await endpoint.chat(response_format=wanted)
        rows = endpoint.rows()
    cost_usd = reply.json["usage"]["cost"]
    assert [(row.outcome, row.account) for row in rows] == [("bad_output", "acme"), ("answered", "acme")]
    assert round(cost_usd * 10**9) == sum(row.amount_nusd for row in rows)
    assert float(reply.headers["x-sluice-cost-usd"]) * 10**9 == pytest.approx(sum(row.amount_nusd for row in rows))


# -- it adds up --------------------------------------------------------------------------------------------------------


async def test_everything_that_shows_money_says_the_same(tmp_path: Path) -> None:
    """Headers, `usage.cost`, ledger rows, decisions, costs, usage, budgets and metrics agree about one tenant."""
    cap = {"name": "day", "amount_usd": 5, "window": "24h", "scope": "tenant:acme"}
    async with before_simulated(tmp_path, policy(caps=[cap]), awake=("mid",)) as endpoint:
        replies = [await endpoint.chat(**SHORT) for _ in range(3)]
        streamed = await endpoint.chat(stream=True, stream_options={"include_usage": True}, **SHORT)
        await endpoint.chat("globex", **SHORT)
        paid = endpoint.charged_nusd()
        told = [reply.json["usage"]["cost"] for reply in replies] + [events(streamed.body)[-2]["usage"]["cost"]]
        headers = [float(reply.headers["x-sluice-cost-usd"]) for reply in replies]
        seen = await money_seen(endpoint, [reply.headers["x-sluice-request-id"] for reply in (*replies, streamed)])
    assert [round(usd * 10**9) for usd in seen.values()] == [paid] * len(seen), seen
    assert round(sum(told) * 10**9) == paid
    assert headers == told[:3]


async def money_seen(endpoint: Endpoint, ids: list[str]) -> dict[str, float]:
    """What each route says that acme has spent, in dollars."""
    since = int(endpoint.service.started_s) - 60
    decisions = [(await endpoint.ask("GET", f"/v1/decisions/{one}")).json["cost_usd"] for one in ids]
    costs = (await endpoint.ask("GET", f"/v1/costs?start_time={since}")).json
    [cap] = (await endpoint.ask("GET", "/budgets")).json["data"]
    return {
        "decisions": sum(decisions),
        "costs": sum(one["amount"]["value"] for bucket in costs["data"] for one in bucket["results"]),
        "budgets": cap["spent_usd"],
    }


async def test_a_past_request_can_be_looked_up(tmp_path: Path) -> None:
    """Its decision before each attempt, its attempts with what they cost whom, and no word of its text."""
    async with before_simulated(tmp_path, awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "refuse")
        await endpoint.fail("other", "refuse")
        reply = await endpoint.chat(**SHORT)
        past = (await endpoint.ask("GET", f"/v1/decisions/{reply.headers['x-sluice-request-id']}")).json
    assert past["outcome"] == "served"
    assert [one["outcome"] for one in past["attempts"]][-1] == "answered"
    assert len(past["attempts"]) == len(past["decisions"]) == int(reply.headers["x-sluice-attempts"])
    assert past["decisions"][-1]["chosen"]["pool"] == past["pool"] == reply.headers["x-sluice-pool"]
    assert "hello" not in json.dumps(past)


async def test_a_route_is_a_decision_that_costs_nothing(tmp_path: Path) -> None:
    """`/v1/route` says where a request would go, by its body or by its numbers, and runs nothing."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        by_body = await endpoint.ask("POST", "/v1/route", json={"model": "chat", "messages": ASK, "max_tokens": 500})
        numbers = {
            "model": "chat",
            "prompt_tokens": 12_000,
            "max_tokens": 500,
            "tier": "economy",
            "features": ["vision"],
        }
        by_numbers = await endpoint.ask("POST", "/v1/route", json=numbers)
        assert endpoint.rows() == []
    assert by_body.json["chosen"]["pool"] == "mid"
    assert by_numbers.json["chosen"]["pool"] == "big"
    assert {one["pool"]: one["reason"] for one in by_numbers.json["rejected"] if one["reason"] != "class"} == {
        "small": "feature",
        "mid": "context",
        "other": "context",
    }


async def test_metrics_count_what_happened(tmp_path: Path) -> None:
    """Requests, attempts, tokens and dollars by class and pool; never by tenant."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        await endpoint.fail("small", "refuse")
        await endpoint.chat(**SHORT)
        await endpoint.chat(model="nope")
        text = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
        charged = endpoint.charged_nusd()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values['sluice_requests_total{class="chat",code="",outcome="served",status="200",tier="premium"}'] == "1.0"
    assert values['sluice_attempts_total{outcome="unavailable",pool="small"}'] == "1.0"
    assert values['sluice_attempts_total{outcome="answered",pool="small"}'] == "1.0"
    assert values['sluice_fallbacks_total{class="chat",outcome="served"}'] == "1.0"
    common = 'gen_ai_operation_name="chat",gen_ai_provider_name="vllm",gen_ai_request_model="chat"'
    common += ',gen_ai_response_model="qwen3-4b"'
    assert values[f'gen_ai_client_token_usage_sum{{{common},gen_ai_token_type="output"}}'] == "5.0"
    assert values[f'gen_ai_server_request_duration_seconds_count{{error_type="",{common}}}'] == "1.0"
    assert round(float(values['sluice_charged_usd_total{pool="small"}']) * 10**9) == charged
    assert values['sluice_pool_containers_ready{pool="small"}'] == "1.0"
    assert "acme" not in text
