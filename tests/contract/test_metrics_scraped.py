"""What a running endpoint tells Prometheus: as the page says, and as Prometheus' own linter wants it."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry.log import LOGGER
from support.endpoint import before_simulated, one_pool
from support.metrics_page import METRICS, OF_REPLICAS, OF_TENANTS
from support.promtool import promtool
from support.replicas import policy as shared_policy
from support.replicas import replicas
from support.scrape import scraped

SHORT = {"max_tokens": 5, "sim_output_tokens": 5}


@pytest.fixture
async def page(tmp_path: Path) -> bytes:
    """A scrape after requests that were served, streamed, moved on and refused, in front of a pool that booted."""
    async with before_simulated(tmp_path, one_pool(), metrics_by_tenant=1) as endpoint:
        await endpoint.chat(**SHORT)
        await endpoint.fail("small", "refuse")
        await endpoint.chat("globex", **SHORT, stream=True)
        await endpoint.chat(model="chat", max_tokens=10**6)
        await endpoint.settled()
        await endpoint.service.meters.post_house()
        return (await endpoint.ask("GET", "/metrics", "ops")).body


def families(page: bytes) -> dict[str, tuple[str, set[frozenset[str]]]]:
    """Kind, and the labels that its series have, by name as it stands in a scrape."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        name = family.name + "_total" if family.type == "counter" else family.name
        found[name] = (family.type, {frozenset(sample.labels) - {"le"} for sample in family.samples})
    return found


def test_prometheus_linter_has_nothing_to_say(page: bytes) -> None:
    """`promtool check metrics`: names, units, types and help."""
    done = promtool("check", "metrics", stdin=page.decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_page_has_what_is_told_and_no_more(page: bytes) -> None:
    """Every metric of an endpoint of its own with its kind and labels, in both directions."""
    found = families(page)
    expected = {name for name, row in METRICS.items() if not row.text.startswith(OF_REPLICAS)}
    assert found.keys() == expected
    assert {name: kind for name, (kind, _) in found.items()} == {name: METRICS[name].kind for name in expected}
    wrong = {name: labels for name, (_, labels) in found.items() if labels - {METRICS[name].labels}}
    assert wrong == {}


def total(page: bytes, name: str, **labels: str) -> float:
    """Of all series that have these labels."""
    asked = labels.items()
    return sum(found for (called, has), found in scraped(page).items() if called == name and asked <= has)


def test_seconds_and_dollars_of_a_pool_agree(page: bytes) -> None:
    """Busy as boot and idle seconds cost the pool's rate, by what attempts and rows of the house say they did."""
    boots, idle, busy = (
        total(page, "sluice_house_usd_total", account="__boot__")
        / total(page, "sluice_container_seconds_total", phase="boot"),
        total(page, "sluice_house_usd_total", account="__idle__")
        / total(page, "sluice_container_seconds_total", phase="idle"),
        total(page, "sluice_attempts_usd_total") / total(page, "sluice_container_seconds_total", phase="busy"),
    )
    assert total(page, "sluice_boots_total") == 1
    assert boots > 0
    assert (idle, busy) == (pytest.approx(boots, rel=1e-3), pytest.approx(boots, rel=1e-3))


async def test_replicas_tell_of_what_they_share(tmp_path: Path, redis_url: str, postgres_url: str) -> None:
    """The rest of the page: the backlog, Redis's promises and clock; and rows of the house, by whoever wrote them."""
    files = shared_policy()
    async with replicas(tmp_path, redis_url, postgres_url, files, namespace="metrics") as shared:
        await shared.start("a")
        await shared.chat("a")
        scraped = b""

        async def told() -> bool:
            nonlocal scraped
            scraped = (await shared.ask("a", "/metrics")).body
            return b"sluice_ledger_backlog_entries " in scraped and b"sluice_boots_total{" in scraped

        await shared.until(told)
    found = families(scraped)
    assert found.keys() == {name for name, row in METRICS.items() if not row.text.startswith(OF_TENANTS)}
    assert {name: kind for name, (kind, _) in found.items()} == {name: METRICS[name].kind for name in found}
    assert promtool("check", "metrics", stdin=scraped.decode()).stdout == ""


async def test_a_platform_that_cannot_be_asked_is_counted(tmp_path: Path) -> None:
    """Lists that came and lists that did not, so that an alert can tell a platform that is away."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        metrics = endpoint.service.metrics
        assert total(metrics.text(), "sluice_platform_looks_total", result="failed") == 0
        assert total(metrics.text(), "sluice_platform_looks_total", result="listed") > 0
        assert endpoint.pools is not None
        await endpoint.pools.stop()
        async with asyncio.timeout(30):
            failed = 0.0
            while not failed:
                page = (await endpoint.ask("GET", "/metrics", "ops")).body
                failed = total(page, "sluice_platform_looks_total", result="failed")


async def test_the_time_of_a_token_has_no_wait_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream of 200 tokens after an attempt that failed: from its own first token on, and no sooner."""
    before = LOGGER.level
    LOGGER.setLevel(logging.DEBUG)
    try:
        async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
            await endpoint.fail("small", "refuse")
            await endpoint.chat(stream=True, max_tokens=200, sim_output_tokens=200)
            await endpoint.settled()
            page = endpoint.service.metrics.text()
    finally:
        LOGGER.setLevel(before)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    failed, answered = (line for line in lines if line["event"] == "AttemptEnded")
    assert (failed["outcome"], answered["outcome"]) == ("unavailable", "answered")
    writing_us = answered["duration_us"] - answered["ttft_us"]
    assert writing_us > 0
    assert total(page, "gen_ai_server_time_per_output_token_seconds_sum") == writing_us // 199 / 1_000_000
