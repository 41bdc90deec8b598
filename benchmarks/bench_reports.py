"""How long a month's report takes, in SQLite and in PostgreSQL.

    python benchmarks/bench_reports.py [--rows 10000000]

Rows are made inside each database, as a month of skewed tenants leaves them behind, and their sums by hour by the SQL
that keeps them beside a running router. Needs PostgreSQL. Ten million rows take about 13 GB of disk and 25 minutes.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from pricing.ledger.insert import adding
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.postgres import connect
from pricing.ledger.read import reading
from pricing.ledger.rollups import ROLLUPS
from pricing.ledger.sums_file import add_some, teach
from pricing.ledger.upgrade import ensure_current
from pricing.reports.report import Part, report
from results import Result, Target, number

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from support.real_postgres import running_postgres  # the server of the tests

BEGIN_US: Final = 1_793_491_200_000_000  # 2026-11-01
MONTH_US: Final = 720 * 3_600_000_000
TENANTS: Final = 200
POOLS: Final = 30
SLOTS: Final = 20_000  # who asked for what: each row takes one
AT_ONCE: Final = 50_000  # rows that SQLite is given in one transaction
PROMISED_S: Final = {"PostgreSQL": 1.0, "SQLite": 3.0}
SLOT_COLUMNS: Final = ("slot", "tenant", "key_id", "request_class", "tier", "pool", "gpu", "model", "tags")
ROW: Final = f"""
    INSERT INTO ledger_rows (row_id, at_us, kind, account, amount_nusd, metered_nusd, pool, gpu, model, policy_version,
        price_books, tenant, key_id, request_id, attempt, request_class, tier, outcome, duration_us, ttft_us,
        prompt_tokens, completion_tokens, estimated, tags, evidence)
    SELECT '01JCZ5W000000000000' || (100000000 + i) || ':1:attempt', {BEGIN_US} + i * {{step_us}}, 'attempt',
        CASE WHEN i % 50 = 0 THEN '__failed__' ELSE tenant END, 12000 + i % 997 * 40, 12000 + i % 997 * 40, pool, gpu,
        model, '0123456789ab', 'modal-2026-10', tenant, key_id, '01JCZ5W000000000000' || (100000000 + i), 1,
        request_class, tier, CASE WHEN i % 50 = 0 THEN 'out_of_memory' ELSE 'answered' END,
        300000 + i % 997 * (i % 997) * 30, 50000 + i % 997 * 400, 700, 200 + i % 89, 1 = 0, tags, 'observed'
    FROM {{numbers}} JOIN slots ON slot = i * 2654435761 % {SLOTS} WHERE i % 4 <> 3"""
HOUSE: Final = f"""
    INSERT INTO ledger_rows (row_id, at_us, kind, account, amount_nusd, metered_nusd, pool, gpu, model, policy_version,
        price_books, attempt, outcome, duration_us, estimated, tags, evidence)
    SELECT pool || '@' || i || ':0:idle', {BEGIN_US} + i * {{step_us}}, 'idle', '__idle__', 900, 900, pool, gpu, model,
        '0123456789ab', 'modal-2026-10', 0, '', 10000000, 1 = 0, '[]', 'observed'
    FROM {{numbers}} JOIN slots ON slot = i * 2654435761 % {SLOTS} WHERE i % 4 = 3"""
REQUEST: Final = f"""
    INSERT INTO requests (request_id, at_us, tenant, key_id, endpoint, model_asked, request_class, tier_asked,
        tier_served, pool, outcome, status, attempts, stream, duration_us, prompt_tokens, completion_tokens,
        baseline_nusd, policy_version, decisions_json, tags, model, gpu)
    SELECT '01JCZ5W000000000000' || (100000000 + i), {BEGIN_US} + i * {{step_us}}, tenant, key_id,
        '/v1/chat/completions', request_class, request_class, tier, tier, pool,
        CASE WHEN i % 50 = 0 THEN 'broken' ELSE 'served' END, 200, 1, 1 = 1, 350000 + i % 997 * (i % 997) * 30, 700,
        200 + i % 89, 30000, '0123456789ab', {{bytes}}, tags, model, gpu
    FROM {{numbers}} JOIN slots ON slot = i * 2654435761 % {SLOTS} WHERE i % 4 <> 3"""


def slots() -> list[tuple[Any, ...]]:
    """The n-th tenant asks 1/n as often as the first; each has two keys and uses four pools."""
    chosen = Random(1)
    weights = [1 / (number + 1) for number in range(TENANTS)]
    found = []
    for slot, tenant in enumerate(chosen.choices(range(TENANTS), weights, k=SLOTS)):
        pool = (tenant * 7 + min(chosen.randrange(8), 3)) % POOLS
        tags = '["batch"]' if chosen.random() < 0.2 else "[]"
        tier = ("economy", "standard", "premium")[pool % 3]
        names = (
            f"tenant-{tenant}",
            f"tenant-{tenant}-{chosen.randrange(2)}",
            ("chat", "code", "vision")[pool % 3],
            tier,
        )
        found.append((slot, *names, f"pool-{pool}", ("T4", "L4", "A10", "L40S")[pool % 4], f"model-{pool % 9}", tags))
    return found


def fill_file(path: Path, rows: int) -> None:
    ensure_current(path)
    connection = sqlite3.connect(path, isolation_level=None)
    teach(connection)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"CREATE TEMP TABLE slots ({', '.join(SLOT_COLUMNS)}, PRIMARY KEY (slot))")
    connection.executemany(f"INSERT INTO slots VALUES ({','.join('?' * len(SLOT_COLUMNS))})", slots())
    for first in range(0, rows, AT_ONCE):
        last = min(first + AT_ONCE, rows) - 1
        numbers = (
            f"(WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n)"
        )
        words = {"numbers": numbers, "step_us": MONTH_US // rows, "bytes": "CAST('[]' AS BLOB)"}
        connection.execute("BEGIN")
        for statement in (REQUEST, ROW, HOUSE):
            connection.execute(statement.format(**words))
        connection.execute("COMMIT")
        add_some(connection, AT_ONCE)
    connection.close()


def fill_database(url: PostgresUrl, rows: int) -> None:
    ensure_current(url)
    words = {
        "numbers": f"generate_series(0, {rows - 1}::bigint) AS n (i)",
        "step_us": MONTH_US // rows,
        "bytes": "'[]'::bytea",
    }
    with connect(url) as connection:
        connection.execute(
            f"CREATE TEMP TABLE slots (slot bigint PRIMARY KEY, {' text, '.join(SLOT_COLUMNS[1:])} text)"
        )
        with connection.cursor().copy("COPY slots FROM STDIN") as copy:
            for slot in slots():
                copy.write_row(slot)
        for statement in (REQUEST, ROW, HOUSE):
            connection.execute(statement.format(**words).encode())
        for rollup in ROLLUPS:
            connection.execute(adding(rollup, rollup.of_rows(rollup.source)).encode())
    with connect(url) as connection:
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")


def timed(ask: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the first time, and of the best of three more."""
    taken = []
    for _ in range(4):
        begin = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - begin)
    return taken[0], min(taken[1:])


def month(place: LedgerPlace, *by: str, tenant: str | None = None, parts: Sequence[Part] = ()) -> Callable[[], object]:
    """A month that begins and ends within an hour, so that its ends are read from the rows."""
    return lambda: report(place, by, BEGIN_US + 1, BEGIN_US + MONTH_US - 1, tenant, parts=parts)


def from_rows(place: LedgerPlace) -> float:
    """Seconds that tenant and pool take row by row: what the sums by hour save."""
    begin = time.perf_counter()
    with reading(place) as ledger:
        ledger.execute("SELECT tenant, pool, sum(amount_nusd) FROM ledger_rows GROUP BY 1, 2").fetchall()
    return time.perf_counter() - begin


def sums_kept(place: LedgerPlace) -> str:
    with reading(place) as ledger:
        counts = [
            ledger.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in dict.fromkeys(rollup.table for rollup in ROLLUPS)
        ]
    return " + ".join(f"{count:,}" for count in counts)


def measure(name: str, place: LedgerPlace, bytes_: int, rows: int) -> tuple[list[tuple[str, ...]], Target]:
    questions: dict[str, tuple[float, float]] = {
        "month by tenant and pool": timed(month(place, "tenant", "pool")),
        "month by day and class": timed(month(place, "day", "class")),
        "month by outcome and tag": timed(month(place, "outcome", "tag")),
        "month by pool, with percentiles": timed(month(place, "pool", parts=(Part.LATENCY,))),
        "month of the largest tenant, with percentiles": timed(
            month(place, "pool", tenant="tenant-0", parts=(Part.LATENCY,))
        ),
        "month of the 51st tenant, with percentiles": timed(
            month(place, "pool", tenant="tenant-50", parts=(Part.LATENCY,))
        ),
        "month by tenant, with percentiles": timed(month(place, "tenant", parts=(Part.LATENCY,))),
    }
    table = [(name, what, *(f"{number(seconds)} s" for seconds in taken)) for what, taken in questions.items()]
    table.append((name, "tenant and pool from the rows themselves", f"{number(from_rows(place))} s", ""))
    table.append((name, "sums by hour, of rows + requests + latencies", sums_kept(place), ""))
    table.append((name, "disk for each row of money, with its request and sums", f"{bytes_ / rows:,.0f} bytes", ""))
    first_s, promised_s = questions["month by tenant and pool"][0], PROMISED_S[name]
    what = f"{name}: month by tenant and pool, {rows:,} rows"
    return table, Target(what, f"< {promised_s:g} s", f"{number(first_s)} s", first_s < promised_s)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    rows = options.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        fill_file(path, rows)
        in_file, file_target = measure("SQLite", path, path.stat().st_size, rows)
        path.unlink()
    tuned = {"shared_buffers": "256MB", "work_mem": "64MB", "max_wal_size": "8GB"}
    with running_postgres(tuned) as postgres:
        url = PostgresUrl(postgres.new_database())
        fill_database(url, rows)
        with connect(url) as connection:
            [size] = connection.execute("SELECT pg_database_size(current_database())").fetchone() or [0]
        in_database, database_target = measure("PostgreSQL", url, size, rows)
    about = (
        f"A month of {rows:,} rows of money, a quarter of them idle time of {POOLS} pools, the others requests of "
        f"{TENANTS} tenants of whom the n-th asks 1/n as often as the first; decisions left out. Reports of windows "
        "that cut an hour at either end. The promise is for 10,000,000 rows."
    )
    columns = ("ledger", "what", "first", "best of three more")
    print(Result("Reports", about, columns, [*in_file, *in_database], [file_target, database_target]).as_json())


if __name__ == "__main__":
    main()
