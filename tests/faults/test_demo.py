"""The demo, played once in short: real processes, real HTTP, real faults; and a demo whose books are wrong."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from policies.policy import Policy
from pricing.ledger.rows import House
from router.cli import demo
from router.demo.books import read_sums
from router.demo.play import Setting, play
from router.demo.summary import Summary, as_json, problems_of
from router.demo.trace import shipped_trace
from router.demo.verdict import Verdict

REQUESTS = 60


@dataclass(frozen=True)
class Played:
    """What one run came to, what it printed, and its folder."""

    policy: Policy
    summary: Summary
    printed: str
    folder: Path


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo")
    printed = io.StringIO()
    screen = Console(file=printed, width=100)
    setting = Setting(speedup=6.0, seed=3, folder=folder)
    policy, summary = asyncio.run(play(shipped_trace()[:REQUESTS], setting, screen))
    return Played(policy, summary, printed.getvalue(), folder)


def test_every_request_is_accounted_for_and_none_is_lost(played: Played) -> None:
    """Served, refused and broken are all there is, and most were served."""
    document = as_json(played.summary)
    assert document["requests"] == REQUESTS
    assert document["lost"] == 0
    assert document["served"] + document["refused"] + document["broken"] == REQUESTS
    assert document["served"] > REQUESTS / 2


def test_ledger_and_bill_agree_within_a_percent(played: Played) -> None:
    """The router's total is the pools' own container seconds × rate; so are the boots for themselves."""
    assert abs(played.summary.gap) <= 0.01
    assert abs(played.summary.boot_gap) <= 0.01
    assert problems_of(played.summary) == []


def test_costs_by_tenant_and_by_pool_are_the_whole_ledger(played: Played) -> None:
    """House accounts included, both add up to the total, which is what the file says."""
    document = as_json(played.summary)
    with sqlite3.connect(played.folder / "ledger.sqlite") as connection:
        [total_nusd] = connection.execute("SELECT sum(amount_nusd) FROM ledger_rows").fetchone()
    assert played.summary.ledger_nusd == total_nusd
    for split in ("tenant", "pool"):
        assert sum(document["cost_usd"][split].values()) == pytest.approx(document["ledger_total_usd"], abs=1e-9)
    assert {House.BOOT, House.IDLE} <= set(document["cost_usd"]["tenant"])


def test_every_mishap_was_ordered(played: Played) -> None:
    """One hang, one crash in mid-stream, one out-of-memory; each on a pool that the policy has."""
    kinds = sorted(str(struck.mishap.fault["kind"]) for struck in played.summary.struck)
    assert kinds == ["crash_mid_stream", "hang", "out_of_memory"]
    assert {struck.pool for struck in played.summary.struck} <= set(played.policy.pools)


def test_no_stream_ends_because_its_pool_broke(played: Played) -> None:
    """A crash in mid-stream goes on at another pool: what breaks a stream is a budget alone."""
    assert set(played.summary.reasons(Verdict.BROKEN)) <= {"budget_exceeded"}


def test_clients_and_ledger_count_the_same_outcomes(played: Played) -> None:
    """What clients judged from bytes is what the router wrote down."""
    with sqlite3.connect(played.folder / "ledger.sqlite") as connection:
        written = dict(connection.execute("SELECT outcome, count(*) FROM requests GROUP BY outcome").fetchall())
    assert written.get("served", 0) == played.summary.count(Verdict.SERVED)
    assert sum(written.values()) == REQUESTS


def test_no_key_or_prompt_is_in_logs_or_ledger(played: Played) -> None:
    """The keys of the run, and text that was sent, stand in no file that it left behind."""
    for path in played.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"sk-demo-" not in content
            assert b"Answer:" not in content


def test_without_a_terminal_progress_is_plain_lines(played: Played) -> None:
    """No control characters, and each line tells how far the run is."""
    assert "\x1b" not in played.printed
    assert f"of {REQUESTS}" in played.printed


def test_a_mis_stated_boot_makes_the_demo_fail(played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A ledger in which one boot is half of what it was: the demo says so, and ends with status 1."""
    falsified = tmp_path / "ledger.sqlite"
    shutil.copy(played.folder / "ledger.sqlite", falsified)
    with sqlite3.connect(falsified) as connection:
        connection.execute(
            "UPDATE ledger_rows SET amount_nusd = amount_nusd / 2 WHERE row_id = "
            "(SELECT row_id FROM ledger_rows WHERE account = '__boot__' ORDER BY amount_nusd DESC LIMIT 1)"
        )
    wrong = replace(played.summary, sums=read_sums(falsified))
    monkeypatch.setattr(demo, "play", returning(played.policy, wrong))
    result = CliRunner().invoke(demo.app, ["--json", str(tmp_path / "out.json")])
    assert result.exit_code == 1
    assert "boots: the router's $" in result.output
    assert "It adds up" not in result.output
    assert json.loads((tmp_path / "out.json").read_text())["problems"]


def test_a_good_run_ends_well_and_writes_its_figures(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Status 0, tables of at most 100 columns, and the JSON that was asked for."""
    monkeypatch.setattr(demo, "play", returning(played.policy, played.summary))
    result = CliRunner().invoke(demo.app, ["--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert "It adds up" in result.output
    assert max(len(line) for line in result.output.splitlines()) <= 100
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(as_json(played.summary)))


def returning(policy: Policy, summary: Summary) -> Callable[..., Awaitable[Any]]:
    async def play_nothing(*_: object) -> tuple[Policy, Summary]:
        return policy, summary

    return play_nothing
