"""A small ledger whose sums a test can do by hand.

Day 1, 2026-01-01: acme asks three times on l4 (one falls back to a10 after a bad answer that the house pays), globex
once; one request of acme is refused. Three of these requests have a JSON schema, which the bad answer broke. Day 2:
acme once more, cut with an overrun. Pools boot and idle on both days.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Engine, create_engine, event, inspect

from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import Settlement
from pricing.clock import ManualClock
from pricing.ledger import migrations
from pricing.ledger.codec import REQUEST_COLUMNS, request_from
from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading
from pricing.ledger.rows import House, LedgerRow, RequestRow, RowKind, SchemaResult
from pricing.ledger.sums_file import teach
from support.money import GLOBEX, POOL, UTC, cap, caps, house_row, request, row, wish
from support.values import replace

DAY_1: Final = 1_767_225_600 * 1_000_000 + 3_600 * 1_000_000  # 2026-01-01 01:00 UTC
DAY_2: Final = DAY_1 + 86_400 * 1_000_000
LEDGER_NUSD: Final = 1_000 + 2_000 + 300 + 4_000 + 500 + 900 + 100 + 70 + 30 + 11 - 1


def write_small_ledger(path: Path) -> None:
    asyncio.run(_write(path))


async def _write(path: Path) -> None:
    store = SqliteStore(path, ManualClock(DAY_1), caps(cap(10**12), cap(10**12, scope="pool:l4"), zone=UTC))
    await _serve(store, "a", row("a:1", 1_000, at_us=DAY_1))
    await _serve(store, "b", row("b:1", 2_000, at_us=DAY_1, tags=("batch",), schema_result=SchemaResult.KEPT))
    failed = row("c:1", 300, House.FAILED, tenant="acme", outcome="bad_output", at_us=DAY_1)
    failed = replace(failed, schema_result=SchemaResult.BROKEN)
    answered = row("c:2", 4_000, at_us=DAY_1, pool="a10", gpu="A10", model="qwen3-8b", tier="premium")
    answered = replace(answered, schema_result=SchemaResult.KEPT)
    await store.open(wish("c:1", 300))
    await store.settle_and_open(Settlement("c:1", 0, (failed,)), wish("c:2", 4_000))
    summary = request("c", at_us=DAY_1, pool="a10", tier_served="premium", attempts=2, baseline_nusd=6_000)
    summary = replace(summary, model="qwen3-8b", gpu="A10")
    await store.settle(Settlement("c:2", 4_000, (answered,), summary))
    await _serve(
        store, "g", row("g:1", 500, "globex", at_us=DAY_1, key_id="k9", schema_result=SchemaResult.CUT), tenant="globex"
    )
    refused = request("d", at_us=DAY_1, pool=None, tier_served=None, outcome="refused", status=429, attempts=0)
    refused = replace(refused, model="", gpu="")
    await store.record(replace(refused, prompt_tokens=None, completion_tokens=None, baseline_nusd=None))
    await store.open(wish("e:1", 900))
    cut = row("e:1", 900, metered_nusd=1_000, outcome="cut", at_us=DAY_2)
    overrun = replace(
        row("e:1", 100, House.OVERRUN, at_us=DAY_2),
        row_id="e:1:overrun",
        kind=RowKind.OVERRUN,
        metered_nusd=0,
        tenant="acme",
    )
    broken = request("e", at_us=DAY_2, outcome="broken", status=200, error_code="budget_exceeded")
    await store.settle(Settlement("e:1", 900, (cut, overrun), broken))
    await store.post(
        [
            house_row("l4@1:0:boot", RowKind.BOOT, 70, DAY_1),
            house_row("l4@1:0:idle", RowKind.IDLE, 30, DAY_1),
            house_row("a10@2:0:idle", RowKind.IDLE, 11, DAY_2, pool="a10"),
            house_row("l4@2:0:adjustment", RowKind.ADJUSTMENT, -1, DAY_2),
        ]
    )
    await store.aclose()


async def _serve(store: SqliteStore, request_id: str, paid: LedgerRow, tenant: str = "acme") -> None:
    scopes = (GLOBEX, POOL) if tenant == "globex" else ()
    await store.open(wish(f"{request_id}:1", paid.amount_nusd, *scopes))
    summary = request(request_id, tenant, at_us=paid.at_us, key_id=paid.key_id)
    await store.settle(Settlement(f"{request_id}:1", paid.amount_nusd, (paid,), summary))


def take_back(url: URL, version: str) -> None:
    """Give a ledger the tables that an older version had."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: teach(raw))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, version)
    engine.dispose()


def described(engine: Engine, without: str = "") -> dict[str, Any]:
    """Every table with its columns, keys and indexes, as the database says.

    Columns are sorted: a database puts one that is added later behind all others, and nothing asks for its place.
    """
    found = inspect(engine)
    return {
        table: (
            sorted((each["name"], str(each["type"]), each["nullable"]) for each in found.get_columns(table)),
            found.get_pk_constraint(table)["constrained_columns"],
            sorted(tuple(each["column_names"]) for each in found.get_indexes(table)),
            sorted(tuple(each["column_names"]) for each in found.get_unique_constraints(table)),
        )
        for table in found.get_table_names()
        if table != without
    }


def recent_requests(place: LedgerPlace, limit: int, tenant: str | None = None) -> list[RequestRow]:
    """The newest summaries of a ledger, newest first; with `tenant`, only that tenant's."""
    where, values = ("", []) if tenant is None else ("WHERE tenant = ?", [tenant])
    query = f"SELECT {','.join(REQUEST_COLUMNS)} FROM requests {where} ORDER BY at_us DESC LIMIT ?"
    with reading(place) as ledger:
        return [request_from(found) for found in ledger.execute(query, [*values, limit])]
