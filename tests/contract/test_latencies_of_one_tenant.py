"""Latencies of one tenant, from a file and from PostgreSQL: what its rows say; a file reads no others."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pricing.ledger.latencies import bucket_of
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.read import reading
from pricing.ledger.reader import Reader, Span, Values
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.sums_file import add_some, teach
from pricing.ledger.upgrade import ensure_current
from pricing.reports.figures import Latency, Timed, latencies_of
from pricing.reports.query import Query, Window
from pricing.reports.zones import UTC_ZONE
from support.money import request, row
from support.shared_ledger import fill, fill_file
from support.values import replace

BEGIN = 1_793_491_200 * 10**6  # 2026-11-01
HOUR = 3_600 * 10**6
TENANTS = ("acme", "globex", "ü ' ?")
POOLS = ("l4", "a10")
WINDOWS = {
    "hours": (BEGIN + HOUR, BEGIN + 30 * HOUR),
    "cut at both ends": (BEGIN + HOUR // 3, BEGIN + 40 * HOUR + 7),
    "within an hour": (BEGIN + 2 * HOUR + 5, BEGIN + 2 * HOUR + HOUR // 2),
    "years": (BEGIN - 500 * 24 * HOUR, BEGIN + 1_000 * 24 * HOUR),
    "before all": (BEGIN - 9 * HOUR, BEGIN),
}


def answers() -> list[tuple[LedgerRow, RequestRow]]:
    """Three hundred over two days, of any length, a few of them without a first token or with no token at all."""
    chosen, found = Random(7), []
    for number in range(300):
        tenant, pool, at_us = chosen.choice(TENANTS), chosen.choice(POOLS), BEGIN + chosen.randrange(48 * HOUR)
        ttft_us = chosen.choice([None, 0, chosen.randrange(1, 10**6)])
        taken_us = (ttft_us or 0) + chosen.randrange(3 * 10**7)
        tokens = chosen.choice([0, 1, chosen.randrange(2, 2_000)])
        paid = row(f"r{number}:1", 5, tenant, at_us=at_us, pool=pool, ttft_us=ttft_us)
        ended = request(f"r{number}", tenant, at_us=at_us, pool=pool, duration_us=taken_us + 1_000)
        found.append((replace(paid, duration_us=taken_us, completion_tokens=tokens), ended))
    return found


ANSWERS = answers()


def sum_up(path: Path) -> None:
    """What an endpoint does in its next pause."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        teach(connection)
        while add_some(connection, 512):
            pass


@pytest.fixture(params=["file", "file of which half waits", "database"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    rows, requests = zip(*ANSWERS, strict=True)
    if request.param == "database":
        url = PostgresUrl(request.getfixturevalue("postgres_url"))
        ensure_current(url)
        await fill(url, rows, requests)
        return url
    path = tmp_path / "ledger.sqlite"
    fill_file(path, rows[:150], requests[:150])
    sum_up(path)
    fill_file(path, rows[150:], requests[150:])
    if request.param == "file":
        sum_up(path)
    return path


def by_hand(tenant: str, since_us: int, until_us: int) -> dict[tuple[str, ...], dict[Timed, Counter[int]]]:
    """Buckets of each pool's answers, from the rows as they were written."""
    found: dict[tuple[str, ...], dict[Timed, Counter[int]]] = {(): {}}
    for paid, ended in ANSWERS:
        if paid.tenant != tenant or not since_us <= paid.at_us < until_us:
            continue
        for what, value in _timed(paid, ended):
            for key in ((paid.pool,), ()):
                found.setdefault(key, {}).setdefault(what, Counter())[bucket_of(value)] += 1
    return found


def _timed(paid: LedgerRow, ended: RequestRow) -> Iterator[tuple[Timed, float]]:
    yield Timed.REQUEST, ended.duration_us / 1e3
    if paid.ttft_us is not None:
        yield Timed.FIRST_TOKEN, paid.ttft_us / 1e3
    after_us, written = paid.duration_us - (paid.ttft_us or 0), (paid.completion_tokens or 0)
    if written > 1 and after_us > 0:
        yield Timed.TOKENS_PER_S, 1e9 * (written - (paid.ttft_us is not None)) / after_us


@pytest.mark.parametrize("window", WINDOWS)
def test_they_are_what_its_rows_say(place: LedgerPlace, window: str) -> None:
    """To the count of every bucket, by pool and in all, wherever the window begins and ends, also where sums wait."""
    for tenant in (*TENANTS, "nobody"):
        asked = Window(*WINDOWS[window], UTC_ZONE, tenant)
        with reading(place) as ledger:
            found = latencies_of(Query(ledger, asked), ["pool"])
        expected = by_hand(tenant, asked.since_us, asked.until_us)
        assert found == {key: Latency(counts) for key, counts in expected.items()}


class Planned:
    """A file that says how it would answer, and answers nothing."""

    def __init__(self, ledger: Reader) -> None:
        self._ledger = ledger
        self.plan = ""

    def execute(self, statement: str, values: Values = ()) -> Any:
        self.plan = "\n".join(line[-1] for line in self._ledger.execute(f"EXPLAIN QUERY PLAN {statement}", values))
        return iter(())

    def utc_text(self, column: str, span: Span) -> str:
        return self._ledger.utc_text(column, span)

    def in_hours(self, since_us: int, until_us: int) -> str:
        return self._ledger.in_hours(since_us, until_us)


@pytest.mark.parametrize("waiting", [False, True])
def test_a_file_reads_no_sum_of_others(tmp_path: Path, waiting: bool) -> None:
    """Each hour's sums are entered at the tenant, in a table that may hold nearly as many as there are rows."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, *zip(*ANSWERS, strict=True))
    if not waiting:
        sum_up(path)
    with reading(path) as ledger:
        planned = Planned(ledger)
        list(Query(planned, Window(*WINDOWS["hours"], UTC_ZONE, "acme")).latencies(["pool"]))
    assert "latency_hours USING PRIMARY KEY (at_us=? AND tenant=?)" in planned.plan
    assert "SCAN main.latency_hours" not in planned.plan
