"""Requests that wait: what is said of a wait beforehand, room that comes before a boot, and pools that are lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from policies.explain.table import render_json
from support.endpoint import Endpoint, Policy, before_scripts, before_simulated, one_pool, policy
from support.failing_pools import error, good
from support.scripted_server import Exchange

ECONOMY = {"model": "chat:economy", "max_tokens": 60, "sim_output_tokens": 60}
LONG = {**ECONOMY, "max_tokens": 4000, "sim_output_tokens": 4000}


def narrow(files: Policy, boot_s: float = 1, at_once: int = 2) -> Policy:
    """One container a pool, which takes so many requests; all but `small` boot for so long."""
    for name, pool in files["pools"].items():
        pool |= {"max_containers": 1, "target_concurrency": at_once, "max_concurrency": at_once}
        pool["boot_s"] = pool["boot_s"] if name == "small" else boot_s
    return files


async def until_running(endpoint: Endpoint, count: int) -> None:
    async with asyncio.timeout(60):
        while endpoint.service.live.state("small").in_flight < count:
            await asyncio.to_thread(lambda: None)


async def until_waiting(endpoint: Endpoint, count: int) -> None:
    async with asyncio.timeout(60):
        while len(endpoint.service.live.lines) < count:
            await asyncio.to_thread(lambda: None)


def drawn(decision: Any) -> str:
    out = StringIO()
    Console(file=out, width=100).print(render_json(decision))
    return out.getvalue()


async def test_a_route_says_that_a_request_would_wait_in_line(tmp_path: Path) -> None:
    """With the expected seconds and charge, as JSON and printed; the request that is then sent does what was said."""
    async with before_simulated(tmp_path, narrow(policy(), boot_s=60), speedup=4, awake=("small",)) as endpoint:
        empty = await endpoint.ask("POST", "/v1/route", json={"model": "chat:economy", "prompt_tokens": 5})
        running = [asyncio.create_task(endpoint.chat(**ECONOMY)) for _ in range(2)]
        await until_running(endpoint, 2)
        full = await endpoint.ask("POST", "/v1/route", json={**ECONOMY, "messages": [{"role": "user", "content": "x"}]})
        served = await endpoint.chat(**ECONOMY)
        assert {(await one).status for one in running} == {200}
        containers = await endpoint.control("GET", "/containers")
    assert (empty.json["waits_for"], empty.json["in_line"]) == (None, {})
    assert (full.json["waits_for"], full.json["in_line"], full.json["warm"]) == ("room", {"small": 0}, None)
    chosen = full.json["chosen"]
    assert (chosen["pool"], chosen["cold"]) == ("small", False)
    assert chosen["expected_seconds"] > chosen["wait_s"] > 0
    assert chosen["expected_charge_usd"] > 0
    assert f"small on A10 (full; it waits in line, for about {chosen['wait_s']:.0f} s)" in drawn(full.json)
    assert (served.status, served.headers["x-sluice-pool"]) == (200, "small")
    assert [name for name, alive in containers.items() if alive] == ["small"]


async def test_who_waits_for_a_boot_takes_room_that_comes_first(tmp_path: Path) -> None:
    """A boot is expected to be sooner than so long a line; but those before it are quick, and its turn comes first."""
    files = narrow(policy(classes={"chat": {"ladder": {"economy": ["small"], "premium": ["mid"]}}}), boot_s=30)
    async with before_simulated(tmp_path, files, speedup=1, awake=("small",)) as endpoint:
        running = [asyncio.create_task(endpoint.chat(**LONG)) for _ in range(2)]
        await until_running(endpoint, 2)
        asked = {**LONG, "sim_output_tokens": 2}
        before = [asyncio.create_task(endpoint.chat(**asked)) for _ in range(22)]
        await until_waiting(endpoint, 22)
        told = await endpoint.ask("POST", "/v1/route", json={**asked, "messages": [{"role": "user", "content": "x"}]})
        waits = asyncio.create_task(endpoint.chat(**asked))
        await until_waiting(endpoint, 23)
        running[0].cancel()
        served = await waits
        state = endpoint.service.live.state("mid")
        running[1].cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert {(await one).headers["x-sluice-pool"] for one in before} == {"small"}
        await endpoint.settled()
    assert (told.json["chosen"]["pool"], told.json["waits_for"], told.json["in_line"]) == ("mid", "boot", {"small": 22})
    assert "; meanwhile in line for small)" in drawn(told.json)
    assert (served.status, served.headers["x-sluice-pool"], served.headers["x-sluice-attempts"]) == (200, "small", "1")
    assert (state.ready, state.in_flight) == (0, 0)


async def test_a_line_outlives_the_container_that_it_waits_for(tmp_path: Path) -> None:
    """An engine dies with all that runs in it, and the breaker opens; nobody else could serve those in line, so they
    stay there and are served once it lets them.
    """
    breaker = {"failures": 2, "half_open_after_s": 5}
    files = narrow(one_pool(defaults={"breaker": breaker, "first_byte_deadline_s": 600}))
    files["pools"]["small"]["boot_s"] = 10
    async with before_simulated(tmp_path, files, speedup=10, awake=("small",)) as endpoint:
        await endpoint.fail("small", "engine_death", after_tokens=1000, min_total_tokens=3000)
        doomed = {**LONG, "model": "chat", "max_tokens": 3000}
        running = [asyncio.create_task(endpoint.chat(**doomed)) for _ in range(2)]
        await until_running(endpoint, 2)
        line = [asyncio.create_task(endpoint.chat(max_tokens=20)) for _ in range(8)]
        await until_waiting(endpoint, 8)
        died, waited = await asyncio.gather(*running), await asyncio.gather(*line)
        states = endpoint.service.live.state("small")
    assert 502 in {reply.status for reply in died}
    assert {(reply.status, reply.headers["x-sluice-attempts"]) for reply in waited} == {(200, "1")}
    assert states.breaker == "closed"


async def test_a_line_moves_on_to_another_pool_when_its_own_is_lost(tmp_path: Path) -> None:
    """Each decides again: the next pool of the ladder is booted once, and serves them all."""
    files = narrow(policy(classes={"chat": {"ladder": {"economy": ["small"], "premium": ["mid"]}}}), boot_s=20)
    async with before_simulated(tmp_path, files, speedup=10, awake=("small",)) as endpoint:
        running = [asyncio.create_task(endpoint.chat(**ECONOMY)) for _ in range(2)]
        await until_running(endpoint, 2)
        line = [asyncio.create_task(endpoint.chat(**ECONOMY)) for _ in range(6)]
        await until_waiting(endpoint, 6)
        await endpoint.control("POST", "/pools/small/down")
        replies = await asyncio.gather(*running, *line)
        containers = await endpoint.control("GET", "/containers")
    assert Counter((reply.status, reply.headers["x-sluice-pool"]) for reply in replies) == {(200, "mid"): 8}
    assert len(containers["mid"]) == 1


async def test_who_comes_while_a_request_tries_a_broken_pool_waits_for_its_answer(tmp_path: Path) -> None:
    """Ten come when the breaker is half open: one tries, the others go once it has an answer, and none is refused."""
    broken = True
    fails = error("500 X", "x")

    async def mends(exchange: Exchange) -> None:
        await (fails if broken else good)(exchange)

    files = one_pool(defaults={"breaker": {"failures": 2, "half_open_after_s": 1}})
    async with before_scripts(tmp_path, {"small": mends}, files) as endpoint:
        assert (await endpoint.chat()).status == 502
        assert (await endpoint.chat()).status == 503
        broken = False
        async with asyncio.timeout(30):
            while endpoint.service.live.state("small").breaker == "open":
                await asyncio.to_thread(lambda: None)
        replies = await asyncio.gather(*(endpoint.chat() for _ in range(10)))
    assert [reply.status for reply in replies] == [200] * 10


async def test_who_has_spent_its_budget_is_told_before_it_stands_in_line(tmp_path: Path) -> None:
    """429 at once, with the cap, while others wait for the same full pool and are served."""
    files = narrow(one_pool())
    files["tenants"]["globex"]["caps"] = [{"name": "day", "amount_usd": 0.000001, "window": "24h"}]
    async with before_simulated(tmp_path, files, speedup=4, awake=("small",)) as endpoint:
        asked = {**ECONOMY, "model": "chat"}
        running = [asyncio.create_task(endpoint.chat(**asked)) for _ in range(4)]
        await until_waiting(endpoint, 2)
        refused = await endpoint.chat("globex", **asked)
        waiting = len(endpoint.service.live.lines)
        assert {(await one).status for one in running} == {200}
    assert (refused.status, refused.code) == (429, "budget_exceeded")
    assert json.loads(refused.body)["error"]["metadata"]["cap"] == "globex/day"
    assert waiting == 2
