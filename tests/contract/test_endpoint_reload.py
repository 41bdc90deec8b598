"""Policy files change while requests run: good ones are swapped in whole, bad ones never."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.endpoint import ASK, Endpoint, Policy, before_scripts, one_pool, policy
from support.scripted_server import DONE, ROLE, Exchange, Script, text_frame

ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()


async def good(exchange: Exchange) -> None:
    await exchange.answer("200 OK", ANSWER)


def held_open(begun: asyncio.Event, go_on: asyncio.Event) -> Script:
    """A stream that has begun and ends when it is told to."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame("he"))
        begun.set()
        await go_on.wait()
        await exchange.chunk(text_frame("llo", "stop") + DONE)
        await exchange.end_stream()

    return script


def with_endpoints(endpoint: Endpoint, files: Policy) -> Policy:
    return {**files, "endpoints": {name: {"url": one.url, "always_on": 1} for name, one in endpoint.upstream.items()}}


async def policy_shown(endpoint: Endpoint) -> tuple[str, list[str]]:
    """The version in force and what is wrong with the files, as `/health` says."""
    health = (await endpoint.ask("GET", "/health", "ops")).json["policy"]
    return health["version"], health["problems"]


async def test_a_good_file_is_taken_by_the_running_endpoint(tmp_path: Path) -> None:
    """The loop that looks at files swaps it in by itself; the version shows in health, headers, ledger and metrics."""
    async with before_scripts(tmp_path, {"small": good}, one_pool(defaults={"reload_poll_s": 0.05})) as endpoint:
        before = (await endpoint.chat()).headers["x-sluice-policy-version"]
        endpoint.write_policy(with_endpoints(endpoint, one_pool(aliases={"helper": "chat"})))
        async with asyncio.timeout(20):
            while (await policy_shown(endpoint))[0] == before:
                pass
        reply = await endpoint.chat(model="helper")
        version, problems = await policy_shown(endpoint)
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
        rows = endpoint.rows()
    assert reply.status == 200
    assert reply.headers["x-sluice-policy-version"] == version != before
    assert problems == []
    assert [row.policy_version for row in rows] == [before, version]
    assert f'sluice_config_info{{version="{version}"}} 1.0' in metrics
    assert before not in metrics


async def test_a_bad_file_changes_nothing_and_is_shown(tmp_path: Path) -> None:
    """The old policy serves on, and `/health` has what is wrong with file and line, until the file is mended."""
    async with before_scripts(tmp_path, {"small": good}, one_pool()) as endpoint:
        before, _ = await policy_shown(endpoint)
        mistakes: list[Any] = [{"clases": {}}, {"version": 1}, []]
        for wrong in mistakes:
            endpoint.write_policy(wrong)
            assert endpoint.service.reloader.check_once() == "refused"
            version, problems = await policy_shown(endpoint)
            assert version == before
            assert problems
            assert all("policy.yaml:" in problem for problem in problems)
            assert (await endpoint.chat()).status == 200
        refused = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
        endpoint.write_policy(with_endpoints(endpoint, one_pool(aliases={"helper": "chat"})))
        assert endpoint.service.reloader.check_once() == "swapped"
        assert (await policy_shown(endpoint))[1] == []
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
    assert "sluice_config_last_reload_successful 0.0" in refused
    assert "sluice_config_last_reload_successful 1.0" in metrics
    assert 'sluice_config_reloads_total{result="refused"} 3.0' in metrics
    assert 'sluice_config_reloads_total{result="taken"} 1.0' in metrics


async def test_a_request_keeps_the_policy_that_it_began_with(tmp_path: Path) -> None:
    """A class, its pool and the tenant go while a stream runs: the stream ends well, under the old version."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    scripts = {"small": held_open(begun, go_on), "mid": good}
    files = policy(classes={"chat": {"ladder": {"premium": ["small"]}}})
    async with before_scripts(tmp_path, scripts, files) as endpoint:
        before, _ = await policy_shown(endpoint)
        running = asyncio.create_task(endpoint.chat(stream=True))
        await begun.wait()
        other: dict[str, Any] = policy(classes={"talk": {"ladder": {"premium": ["mid"]}}}, aliases={})
        del other["tenants"]["acme"], other["pools"]["small"]
        changed = with_endpoints(endpoint, other)
        del changed["endpoints"]["small"]
        endpoint.write_policy(changed)
        assert endpoint.service.reloader.check_once() == "swapped"
        gone = await endpoint.chat()
        there = await endpoint.chat("globex", model="talk")
        go_on.set()
        reply = await running
        rows = {row.pool: row for row in endpoint.rows()}
    assert gone.status == 401
    assert there.status == 200
    assert reply.body.endswith(DONE)
    assert reply.headers["x-sluice-policy-version"] == before
    assert (rows["small"].policy_version, rows["small"].account) == (before, "acme")
    assert rows["mid"].policy_version != before


async def test_a_cap_that_is_lowered_sees_what_was_spent(tmp_path: Path) -> None:
    """Editing a cap loses no spend: what was allowed before counts against the new amount at once."""
    cap: dict[str, Any] = {"name": "day", "amount_usd": 5, "window": "24h", "scope": "tenant:acme"}
    async with before_scripts(tmp_path, {"small": good}, one_pool(caps=[cap])) as endpoint:
        assert (await endpoint.chat()).status == 200
        endpoint.write_policy(with_endpoints(endpoint, one_pool(caps=[{**cap, "amount_usd": "0.000000002"}])))
        assert endpoint.service.reloader.check_once() == "swapped"
        refused = await endpoint.chat()
        [shown] = (await endpoint.ask("GET", "/budgets")).json["data"]
        charged = endpoint.charged_nusd()
    assert (refused.status, refused.code) == (429, "budget_exceeded")
    assert round(shown["spent_usd"] * 10**9) == charged
    assert shown["amount_usd"] == 2e-9


async def test_a_pool_that_was_misconfigured_gets_another_chance(tmp_path: Path) -> None:
    """A pool that refused our credentials is out, and /health says why, until the files are read again."""
    refuses = True

    async def script(exchange: Exchange) -> None:
        if refuses:
            await exchange.answer("401 Unauthorized", b'{"error": "Unauthorized"}')
        else:
            await good(exchange)

    async with before_scripts(tmp_path, {"small": script}, one_pool()) as endpoint:
        assert (await endpoint.chat()).status == 502
        refuses = False
        still = await endpoint.chat()
        health = (await endpoint.ask("GET", "/health", "ops")).json["pools"]["small"]
        endpoint.write_policy(with_endpoints(endpoint, one_pool(description="mended")))
        assert endpoint.service.reloader.check_once() == "swapped"
        again = await endpoint.chat()
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
    assert (still.status, still.code) == (503, "no_capable_pool")
    assert (
        "misconfigured: refuses our credentials (HTTP 401); one request tries it again"
        in still.json["error"]["message"]
    )
    assert (health["breaker"], health["misconfigured"]) == ("open", "refuses our credentials (HTTP 401)")
    assert again.status == 200
    assert 'sluice_pool_misconfigured_total{pool="small"} 1.0' in metrics


async def test_a_drained_pool_takes_nothing_new(tmp_path: Path) -> None:
    """Operators take a pool out in the file: what runs there ends, what comes goes elsewhere."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    files = policy(classes={"chat": {"objective": "listed", "ladder": {"premium": ["small", "mid"]}}})
    async with before_scripts(tmp_path, {"small": held_open(begun, go_on), "mid": good}, files) as endpoint:
        running = asyncio.create_task(endpoint.chat(stream=True))
        await begun.wait()
        endpoint.write_policy(with_endpoints(endpoint, {**files, "drained": ["small"]}))
        assert endpoint.service.reloader.check_once() == "swapped"
        routed = await endpoint.ask("POST", "/v1/route", json={"model": "chat", "messages": ASK})
        new = await endpoint.chat()
        go_on.set()
        old = await running
    assert routed.json["chosen"]["pool"] == "mid"
    assert new.headers["x-sluice-pool"] == "mid"
    assert old.body.endswith(DONE)


@pytest.mark.parametrize("key", [None, "acme", "sk-wrong"])
async def test_who_is_no_admin_learns_only_that_files_were_refused(tmp_path: Path, key: str | None) -> None:
    """What is wrong names tenants, and health names pools and the host: without an admin key it counts the problems."""
    async with before_scripts(tmp_path, {"small": good}, one_pool()) as endpoint:
        bad = with_endpoints(endpoint, one_pool())
        bad["tenants"]["globex"]["keys"] = ["sk-bare"]
        endpoint.write_policy(bad)
        assert endpoint.service.reloader.check_once() == "refused"
        readiness = (await endpoint.ask("GET", "/health/readiness", None)).json
        told = (await endpoint.ask("GET", "/health", key)).json
        detailed = (await endpoint.ask("GET", "/health", "ops")).json
    assert told == {**readiness, "policy_problems": 1}
    assert "globex" in detailed["policy"]["problems"][0]
    assert (detailed["policy_problems"], list(detailed["pools"])) == (1, ["small"])
