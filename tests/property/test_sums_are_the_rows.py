"""Sums by hour and day are the rows, in a file and in PostgreSQL, however they came in and after upgrades too."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from pricing.ledger.latencies import bucket_of
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.read import reading
from pricing.ledger.rollups import LATENCIES, LATENCIES_OF_ALL, REQUESTS_BY_HOUR, ROWS_BY_HOUR, Rollup, between
from pricing.ledger.rows import Evidence, House, LedgerRow, RequestRow, RowKind, SchemaResult
from pricing.ledger.sums_file import add_some, teach
from pricing.ledger.upgrade import ensure_current
from support.ledgers import take_back
from support.money import request, row
from support.shared_ledger import empty_database, empty_file, fill, fill_file, sum_problems
from support.values import replace

HOUR = 3_600_000_000
INSTANTS = st.integers(0, 100 * HOUR)
ROWS = st.builds(
    lambda request_id, attempt, **more: replace(row(f"{request_id}:{attempt}", 0), **more),
    st.sampled_from(["r1", "r2", "r3", "r4"]),
    st.integers(1, 3),
    at_us=INSTANTS,
    kind=st.sampled_from([RowKind.ATTEMPT, RowKind.ATTEMPT, RowKind.LATE, RowKind.IDLE]),
    account=st.sampled_from(["acme", House.FAILED, House.IDLE]),
    amount_nusd=st.integers(-(10**12), 10**15),
    outcome=st.sampled_from(["answered", "answered", "timeout"]),
    duration_us=st.integers(0, 10**10),
    ttft_us=st.none() | st.integers(0, 10**9),
    completion_tokens=st.none() | st.integers(0, 10**5),
    cached_prompt_tokens=st.integers(0, 100),
    estimated=st.booleans(),
    tags=st.sampled_from([(), ("batch",), ('"', "ü")]),
    schema_result=st.none() | st.sampled_from(SchemaResult),
    evidence=st.sampled_from(Evidence),
    boots=st.integers(0, 3),
)
REQUESTS = st.builds(
    lambda name, **more: request(name, **more),
    st.sampled_from(["r1", "r2", "r3", "r4"]),
    at_us=INSTANTS,
    outcome=st.sampled_from(["served", "broken"]),
    tier_served=st.sampled_from(["premium", None]),
    attempts=st.just(3),
    duration_us=st.integers(0, 10**10),
    cached_prompt_tokens=st.integers(0, 100),
)
BATCHES = st.lists(st.tuples(st.lists(ROWS, max_size=4), st.lists(REQUESTS, max_size=2), st.integers(0, 6)), max_size=6)


class Ledgers:
    """The same in a file and in a database."""

    def __init__(self, path: Path, url: PostgresUrl) -> None:
        self.path, self.url = path, url
        self.places: tuple[LedgerPlace, ...] = (path, url)
        for place in self.places:
            ensure_current(place)

    def empty(self) -> None:
        empty_file(self.path)
        empty_database(self.url)

    def write(self, rows: list[LedgerRow], requests: list[RequestRow]) -> None:
        fill_file(self.path, rows, requests)
        asyncio.run(fill(self.url, rows, requests))

    def add_some(self, at_most: int) -> None:
        """Rows of the file that wait come into the sums; those of the database are there."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            teach(connection)
            add_some(connection, at_most)

    def take_back(self, version: str) -> None:
        self.add_some(1_000)  # as a program does that is stopped
        take_back(URL.create("sqlite", database=str(self.path)), version)
        take_back(make_url(self.url.dsn).set(drivername="postgresql+psycopg"), version)

    def found(self, sql: str) -> list[Counter[tuple[Any, ...]]]:
        found = []
        for place in self.places:
            with reading(place) as ledger:
                found.append(Counter(tuple(each) for each in ledger.execute(sql)))
        return found


@pytest.fixture
def both(tmp_path: Path, postgres_url: str) -> Ledgers:
    return Ledgers(tmp_path / "ledger.sqlite", PostgresUrl(postgres_url))


def added_up(rollups: tuple[Rollup, ...], source: str) -> str:
    """SQL: all that a source says, by its dimensions; a group without rows counts as none."""
    by = ", ".join(rollups[0].dimensions)
    sums = ", ".join(f"sum({name})" for name in rollups[0].sums)
    return f"SELECT {by}, {sums} FROM ({source}) AS found GROUP BY {by}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=BATCHES,
    window=st.tuples(INSTANTS, INSTANTS),
    days=st.booleans(),
    old=st.sampled_from([None, None, "0007", "0009"]),
)
def test_a_window_of_sums_is_the_window_of_its_rows(
    both: Ledgers,
    batches: list[tuple[list[LedgerRow], list[RequestRow], int]],
    window: tuple[int, int],
    days: bool,
    old: str | None,
) -> None:
    """Rows and summaries in any order, twice or not at all, in the sums or still waiting; windows that cut hours and
    days, tables of before.
    """
    both.empty()
    for number, (rows, requests, added) in enumerate(batches):
        both.write(rows, requests)
        both.add_some(added)
        if old is not None and number == 2:
            both.take_back(old)
            for place in both.places:
                ensure_current(place)
    assert [sum_problems(place) for place in both.places] == [[], []]
    since_us, until_us = sorted(window)
    for rollups in ((ROWS_BY_HOUR,), (REQUESTS_BY_HOUR,), LATENCIES, LATENCIES_OF_ALL):
        ends = f"at_us >= {since_us}", f"at_us < {until_us}"
        true = " UNION ALL ".join(each.of_rows(each.source, *ends) for each in rollups)
        in_file, in_database = both.found(added_up(rollups, between(rollups, since_us, until_us, days=days)))
        assert [in_file, in_database] == both.found(added_up(rollups, true))
        assert in_file == in_database


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=20))
def test_sql_and_python_agree_on_buckets(both: Ledgers, durations_us: list[int]) -> None:
    """A latency falls into the same bucket in a file, in PostgreSQL and here."""
    both.empty()
    both.write([], [request(f"r{place}", duration_us=us) for place, us in enumerate(durations_us)])
    both.add_some(len(durations_us))
    expected = Counter((bucket_of(us / 1000),) for us in durations_us)
    for found in both.found("SELECT bucket, count FROM latency_hours WHERE what = 'request'"):
        assert Counter({(bucket,): count for bucket, count in found}) == expected
