"""The documents' costs once more, from traffic: requests one after another through meter, ledger and report.

Nothing here multiplies a rate by a time. Each load of a claim becomes a pool whose container is there while requests
run and for the idle time after each; what the meter charges and what the house carries is written into a ledger, and
the report's sum must be the claim's figure, to the nano-dollar that each row may round by.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.store import MeterEntry
from pricing.clock import US_PER_S, ManualClock
from pricing.files.document import read_yaml
from pricing.files.validate import validate
from pricing.ledger.insert_file import insert_ledger
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.ledger.sums_file import teach
from pricing.ledger.upgrade import ensure_current
from pricing.prices.book import PriceBook, find_book, shipped_books
from pricing.prices.rates import container_rate
from pricing.prices.scenario_schema import CostShape, LoadShape, ScenarioShape
from pricing.prices.scenarios import cost_range_nusd, document_files
from pricing.reports.report import report

BOOKS = shipped_books()
NOON_US = 1_767_268_800 * US_PER_S  # 2026-01-01


def claims() -> dict[str, tuple[CostShape, PriceBook]]:
    """Every figure in dollars that no source has rounded on the way, by document and claim."""
    found = {}
    for path in document_files():
        shape = validate(read_yaml(path), ScenarioShape)
        for claim in shape.claims:
            if claim.compute.cost is not None and claim.compute.cost.round_decimals is None:
                found[f"{path.stem}: {claim.id}"] = (claim.compute.cost, find_book(BOOKS, claim.book or shape.book))
    return found


CLAIMS = claims()
CASES = [
    (name, which)
    for name, (cost, _) in CLAIMS.items()
    for which in (0, 1)
    if which == 0 or any(len(set(load.seconds_each())) == 2 for load in cost.loads)
]


def test_the_documents_have_costs() -> None:
    """Each of the five has some, so that a page that changed its shape does not pass unseen."""
    assert {name.split(":")[0] for name in CLAIMS} == {path.stem for path in document_files()}
    assert len(CLAIMS) > 70


@pytest.mark.parametrize(("name", "which"), CASES)
def test_traffic_costs_what_the_formula_says(name: str, which: int, tmp_path: Path) -> None:
    """At the shortest (0) and at the longest (1) times that the document names."""
    cost, book = CLAIMS[name]
    rows = asyncio.run(replayed(cost, book, which))
    ledger = tmp_path / "ledger.sqlite"
    write(ledger, rows)
    until_us = max(row.at_us for row in rows) + 1
    found = report(ledger, ["pool"], NOON_US, until_us)
    assert abs(found.ledger_nusd - cost_range_nusd(cost, book)[which]) <= len(rows)
    assert found.ledger_nusd == sum(row.amount_nusd for row in rows)
    busy = [load for load in cost.loads if not load.idle_s]
    if len(busy) == len(cost.loads):
        assert found.separate == ()  # nothing was idle, so everything was charged
    else:
        assert {line.account for line in found.separate} == {House.IDLE}


async def replayed(cost: CostShape, book: PriceBook, which: int) -> list[LedgerRow]:
    rows: list[LedgerRow] = []
    for place, load in enumerate(cost.loads):
        rows += await Replay(f"load{place}", load, book).run(load.seconds_each()[which], cost.times)
    return rows


class Replay:
    """One load on a pool of its own, from noon on."""

    def __init__(self, pool: str, load: LoadShape, book: PriceBook) -> None:
        self.pool = pool
        self.load = load
        self.clock = ManualClock(NOON_US)
        self.rows: list[LedgerRow] = []
        self.meters = LocalMeters(self.clock, self._post)
        rate = container_rate(book, load.gpu, load.gpus, float(load.cpu_cores), float(load.memory_gib))
        self.meters.set_rate(pool, NOON_US, rate.nusd_per_h, 1)
        self.label = LedgerRow("", 0, RowKind.IDLE, House.IDLE, 0, 0, pool, load.gpu, load.name, "v", book.id)

    async def _post(self, rows: Sequence[LedgerRow]) -> None:
        self.rows += rows

    async def run(self, seconds: Decimal, times: int) -> list[LedgerRow]:
        self.meters.set_containers(self.pool, NOON_US, ready=1, booting=0)
        for number in range(self.load.requests * times):
            await self.serve(f"r{number}", seconds)
            self.clock.advance(float(self.load.idle_s))
        await self.meters.post_house({self.pool: self.label})
        return self.rows

    async def serve(self, name: str, seconds: Decimal) -> None:
        self.meters.enter(MeterEntry(self.pool, 1, 0), name)
        self.clock.advance(float(seconds))
        charge = await self.meters.leave(self.pool, name)
        self.rows.append(
            LedgerRow(
                row_id=f"{self.pool}-{name}:1:{RowKind.ATTEMPT}",
                at_us=self.clock.wall_us(),
                kind=RowKind.ATTEMPT,
                account="studio",
                amount_nusd=charge.nusd,
                metered_nusd=charge.nusd,
                pool=self.pool,
                gpu=self.load.gpu,
                model=self.load.name,
                policy_version="v",
                price_books=self.label.price_books,
                tenant="studio",
                request_id=f"{self.pool}-{name}",
                attempt=1,
                outcome="answered",
            )
        )


def write(ledger: Path, rows: Sequence[LedgerRow]) -> None:
    ensure_current(ledger)
    with closing(sqlite3.connect(ledger)) as connection:
        teach(connection)
        with connection:
            insert_ledger(connection, rows, [])
