"""Policies of the past: what an endpoint shows after a restart, and what `sluice policy` says of a row's version."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

from typer.testing import CliRunner, Result

from pricing.clock import ScaledClock
from pricing.ledger.policy_history import policy_versions
from router.cli.main import app
from support.endpoint import Endpoint, before_scripts, one_pool, policy, serving
from support.ledgers import recent_requests
from support.scripted_server import Exchange

ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()


async def good(exchange: Exchange) -> None:
    await exchange.answer("200 OK", ANSWER)


def sluice(*words: str, ledger: Path) -> Result:
    return CliRunner().invoke(app, ["policy", *words, "--ledger", str(ledger)], env={"COLUMNS": "200"})


async def in_ledger(endpoint: Endpoint, version: str) -> None:
    """Wait until a version is written, which no request waits for."""
    async with asyncio.timeout(30):
        while version not in [each.version for each in await asyncio.to_thread(policy_versions, endpoint.ledger, 9)]:
            pass


async def test_a_restart_shows_what_changed_before_it(tmp_path: Path) -> None:
    """The files were edited while nobody served: the next process shows the difference, a third one too."""
    async with serving(tmp_path, policy(), clock=ScaledClock()) as endpoint:
        first = (await endpoint.ask("GET", "/v1/policy", "ops")).json
        assert (first["previous"], first["changes"]) == (None, [])
        await in_ledger(endpoint, first["version"])
    edited = policy(aliases={"gpt-4o": "chat:premium"})
    for replica in ("r2", "r3"):
        async with serving(tmp_path, edited, clock=ScaledClock(), replica=replica) as endpoint:
            shown = (await endpoint.ask("GET", "/v1/policy", "ops")).json
            assert shown["previous"]["version"] == first["version"] != shown["version"]
            [change] = shown["changes"]
            assert '"gpt-4o": "chat:premium"' in change["diff"]
            await in_ledger(endpoint, shown["version"])
            async with asyncio.timeout(30):
                while (await asyncio.to_thread(policy_versions, endpoint.ledger, 1))[0].latest_replica != replica:
                    pass
    [found, before] = policy_versions(endpoint.ledger, 9)
    assert (found.version, before.version) == (shown["version"], first["version"])
    assert (found.first_replica, found.latest_replica) == ("r2", "r3")


async def test_finance_finds_the_policy_of_a_row(tmp_path: Path) -> None:
    """`sluice policy` lists what was in force, and prints a version by what a row calls it, or by its beginning."""
    async with before_scripts(tmp_path, {"small": good}, one_pool()) as endpoint:
        await endpoint.chat()
        await endpoint.requests(1)
        await in_ledger(endpoint, endpoint.service.policy.version)
    async with before_scripts(tmp_path, {"small": good}, one_pool(aliases={"helper": "chat"})) as endpoint:
        await in_ledger(endpoint, endpoint.service.policy.version)
        rate_usd = endpoint.service.policy.rates["small"].nusd_per_h / 1e9
        now = endpoint.service.policy.version
    [row] = recent_requests(endpoint.ledger, 1)
    listed = sluice("history", ledger=endpoint.ledger)
    assert [line.split()[0] for line in listed.output.splitlines() if "modal-2026-10" in line] == [
        now,
        row.policy_version,
    ]
    as_json = json.loads(sluice("history", "--json", "--limit", "1", ledger=endpoint.ledger).output)
    assert [each["version"] for each in as_json] == [now]
    shown = sluice("show", row.policy_version, ledger=endpoint.ledger)
    assert shown.exit_code == 0
    assert f"policy {row.policy_version}, price book modal-2026-10" in shown.output
    assert '"gpt-4o-mini": "chat:economy"' in shown.output
    assert f"premium pool of chat: small (1 × A10, ${rate_usd:.4f} an hour)" in shown.output
    assert (
        "no version before it is known" in sluice("show", row.policy_version, "--diff", ledger=endpoint.ledger).output
    )
    changed = sluice("show", now[:6], "--diff", ledger=endpoint.ledger)
    assert f"changed from {row.policy_version}" in changed.output
    assert '"helper": "chat"' in changed.output
    whole = json.loads(sluice("show", now, "--json", ledger=endpoint.ledger).output)
    assert whole["previous"] == row.policy_version
    assert '"helper": "chat"' in whole["files"][0]["text"]
    premium = {"pool": "small", "gpu": "A10", "gpu_count": 1, "usd_per_hour": rate_usd, "classes": ["chat"]}
    assert whole["premium"] == [premium]


async def test_sluice_policy_says_what_is_wrong(tmp_path: Path) -> None:
    """No ledger, no history, no such version, several that begin so, files that are gone: each in a sentence."""
    assert "no ledger at" in str(sluice("history", ledger=tmp_path / "none.sqlite").exception)
    async with serving(tmp_path, policy()) as endpoint:
        version = endpoint.service.policy.version
        await in_ledger(endpoint, version)
    unknown = sluice("show", "zz", ledger=endpoint.ledger)
    assert unknown.exit_code == 2
    assert "sluice policy history" in unknown.output
    with sqlite3.connect(endpoint.ledger) as connection:
        columns = "version, price_book, first_us, first_replica, latest_us, latest_replica, bytes"
        values = "version || 'x', price_book, 1, '', 1, '', 0"
        copy = f"INSERT INTO policy_versions ({columns}) SELECT {values} FROM policy_versions"
        connection.execute(copy)
    several = sluice("show", version[:4], ledger=endpoint.ledger)
    assert several.exit_code == 2
    assert f"{version}x" in several.output
    assert "not kept any more" in sluice("show", f"{version}x", ledger=endpoint.ledger).output
    assert "not kept any more" in sluice("show", version, "--diff", ledger=endpoint.ledger).output
    with sqlite3.connect(endpoint.ledger) as connection:
        connection.execute("DELETE FROM policy_versions")
    assert "knows of no policy yet" in sluice("history", ledger=endpoint.ledger).output


async def test_a_ledger_that_cannot_be_read_hides_no_policy(tmp_path: Path) -> None:
    """`/v1/policy` answers with what this process knows, and requests are served."""
    async with before_scripts(tmp_path, {"small": good}, one_pool()) as endpoint:
        await in_ledger(endpoint, endpoint.service.policy.version)
        with sqlite3.connect(endpoint.ledger) as connection:
            connection.execute("ALTER TABLE policy_versions RENAME TO gone")
        shown = await endpoint.ask("GET", "/v1/policy", "ops")
        assert (shown.status, shown.json["previous"]) == (200, None)
        assert (await endpoint.chat()).status == 200
        with sqlite3.connect(endpoint.ledger) as connection:
            connection.execute("ALTER TABLE gone RENAME TO policy_versions")
