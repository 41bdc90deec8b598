"""Replicas, Redis and the wires between them are killed and cut at random while a hundred tenants spend.

Small by default. `make torture` plays the whole of it: 10,000 requests, with a new seed each time, or again with the
one that a run has printed: `make torture SEED=7`.
"""

import asyncio
import os
import sys
from collections import defaultdict
from pathlib import Path

from pricing.ledger.place import parse_ledger
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import LedgerRow
from support.torture.play import Run, torture
from support.torture.scene import FULL, SMALL

SIZE = FULL if os.environ.get("TORTURE") == "full" else SMALL
SEED = int(os.environ.get("SEED") or 1)


async def test_caps_hold_and_no_money_is_lost_whatever_dies(tmp_path: Path, postgres_url: str) -> None:
    """No cap is ever passed, no hold outlives its lease, and budgets, ledger, meters and clients tell the same."""
    print(f"seed {SEED}")
    async with torture(tmp_path, postgres_url, SIZE, SEED) as run:
        verified = await _sluice("ledger", "verify", environ=run.environ)
    print(run.load.outcomes, run.chaos.done, f"fullest cap {run.watcher.nearest:.1%}")
    assert verified == 0
    assert run.watcher.problems == []
    assert run.watcher.looks > 50
    assert run.load.outcomes["answered"] > SIZE.requests // 3
    assert run.load.outcomes["budget_exceeded"] > 0
    assert run.chaos.done == {"kill": SIZE.kills, "outage": SIZE.outages, "cut": SIZE.cuts}
    _caps_held(run)
    await asyncio.to_thread(_told_is_written, run)


async def _sluice(*words: str, environ: dict[str, str]) -> int:
    """The exit status of a command; what it prints is shown with a failure."""
    command = [sys.executable, "-c", "from router.cli.main import main; main()", *words]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environ})
    return await process.wait()


def _caps_held(run: Run) -> None:
    """What the store says that each tenant has ever spent is within its cap, under `cut` without exception."""
    for tenant in run.cast:
        assert run.totals_nusd.get(f"tenant:{tenant.name}", 0) <= tenant.cap_nusd


def _told_is_written(run: Run) -> None:
    """Each charge that a client was told is in the ledger. It is an estimate where the replica that told it was killed
    before it could write, which takes its summary of the request along; or it is not there, where that happened in an
    outage before the attempt's first tick.
    """
    rows: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in recent_rows(parse_ledger(run.environ["SLUICE_LEDGER"]), 100_000):
        if row.request_id is not None:
            rows[row.request_id].append(row)
    for request_id, told in run.load.told.items():
        found = [row for row in rows[request_id] if row.account == told.tenant]
        if not found:
            assert run.chaos.may_have_lost(told.replica, told.at_s), f"{request_id} was answered, and it has no row"
        else:
            assert sum(row.amount_nusd for row in found) == told.nusd or any(row.estimated for row in found)
