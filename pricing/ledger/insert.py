"""Writes entries of the stream into a PostgreSQL ledger, each row once however often its entry comes.

One transaction inserts a batch and adds what was really inserted to the sums by hour. A row id that is there already
changes nothing, so an entry may be delivered again after any crash. A batch travels as one JSON text, which PostgreSQL
takes apart: measured, a COPY into a temporary table is as fast, but needs a session of its own and more round trips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import psycopg

from pricing.errors import StoreUnavailable
from pricing.ledger.entries import Entry
from pricing.ledger.rollups import ROLLUPS, ROWS, Rollup, outcome_known
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.upgrade import HEAD

# Batches go in one after another, whoever brings them: two that add to the same sums in another order would wait for
# each other. `seq` therefore grows in the order of commits.
_INSERT_LOCK: Final = 0x736C_7569_6366
_TYPES: Final = {int: "bigint", bool: "boolean"}  # all else is text to begin with
Sums = Sequence[tuple[Rollup, str]]
_Value = TypeVar("_Value", bound=LedgerRow | RequestRow)


class Delivered(NamedTuple):
    """An entry with its id in the stream: milliseconds, and the number within them."""

    ms: int
    n: int
    entry: Entry


class Inserted(NamedTuple):
    """How much of a batch was new."""

    rows: int
    requests: int


async def insert(connection: psycopg.AsyncConnection[tuple[Any, ...]], batch: Sequence[Delivered]) -> Inserted:
    """Write a batch, all or nothing. Raises psycopg.Error, and StoreUnavailable for tables of another version."""
    rows = [(each.ms, each.n, row) for each in batch for row in each.entry.rows]
    requests = [(each.ms, each.n, each.entry.request) for each in batch if each.entry.request is not None]
    async with connection.transaction():
        locked = await connection.execute(_LOCK_AND_VERSION, [_INSERT_LOCK])
        _check_version(await locked.fetchone())
        written = await _insert(connection, _REQUESTS, requests)  # where the sums of rows look for the outcome
        return Inserted(await _insert(connection, _ROWS, rows), written)


async def insert_directly(connection: psycopg.AsyncConnection[tuple[Any, ...]], rows: Sequence[LedgerRow]) -> int:
    """Write rows that came in no stream, all or nothing, and return how many were new. Raises as `insert` does."""
    async with connection.transaction():
        locked = await connection.execute(_LOCK_AND_VERSION, [_INSERT_LOCK])
        _check_version(await locked.fetchone())
        return await _insert(connection, _ROWS, [(None, None, row) for row in rows])


def _check_version(found: tuple[Any, ...] | None) -> None:
    """An older program would leave out columns that it does not know; whoever is newer drains instead."""
    version = found[-1] if found else None
    if version != HEAD:
        raise StoreUnavailable(
            f"the ledger has tables of version {version}, this program writes version {HEAD}; upgrade sluice, or run "
            "`sluice ledger upgrade` where the program is the newer one"
        )


async def _insert(
    connection: psycopg.AsyncConnection[tuple[Any, ...]],
    statement: str,
    values: Sequence[tuple[int | None, int | None, _Value]],
) -> int:
    if not values:
        return 0
    text = as_json([value for _, _, value in values])
    done = await connection.execute(statement.encode(), [text, [ms for ms, _, _ in values], [n for _, n, _ in values]])
    [count] = await done.fetchone() or [0]
    return int(count)


def as_json(values: Sequence[LedgerRow | RequestRow]) -> str:
    """PostgreSQL's text holds every character but NUL, which a client may have sent as part of a name."""
    text = msgspec.json.encode(values)
    if b"\\u0000" in text:
        text = msgspec.json.encode([_without_nul(value) for value in values])
    return text.decode()


def _without_nul(value: _Value) -> _Value:
    def clean(text: str) -> str:
        return text.replace("\0", "\ufffd")

    changes: dict[str, Any] = {
        name: clean(text) for name in value.__struct_fields__ if isinstance(text := getattr(value, name), str)
    }
    return msgspec.structs.replace(value, **changes, tags=tuple(clean(tag) for tag in value.tags))


def columns_of(struct: type[LedgerRow | RequestRow]) -> str:
    """SQL: the columns of a table of such rows, with where in the stream they came from."""
    return ", ".join((*struct.__struct_fields__, "stream_ms", "stream_n"))


def from_json(struct: type[LedgerRow | RequestRow]) -> str:
    """SQL: rows out of three parameters: a JSON text as `as_json` makes it, and two arrays of stream ids."""
    fields = msgspec.structs.fields(struct)
    typed = ", ".join(f"{field.name} {_type(field.type)}" for field in fields)
    values = ", ".join(f"decode({field.name}, 'base64')" if field.type is bytes else field.name for field in fields)
    return f"""
        SELECT {values}, stream_ms, stream_n FROM ROWS FROM (
            json_to_recordset(%s::json) AS ({typed}), unnest(%s::bigint[]), unnest(%s::bigint[])
        ) AS given ({columns_of(struct)})"""


def _statement(struct: type[LedgerRow | RequestRow], table: str, key: str, sums: Sums) -> str:
    """Insert rows, and add what `sums` makes of those that are new, called `fresh`."""
    added = ", ".join(f"summed_{place} AS ({adding(rollup, rows)})" for place, (rollup, rows) in enumerate(sums))
    return f"""
        WITH fresh AS (
            INSERT INTO {table} ({columns_of(struct)}) {from_json(struct)} ON CONFLICT ({key}) DO NOTHING RETURNING *
        ), {added} SELECT count(*) FROM fresh"""


def adding(rollup: Rollup, rows: str) -> str:
    """SQL: add what `Rollup.of_rows` gives to the sums."""
    columns = ", ".join(rollup.columns)
    key = f"sha256(convert_to(CAST(ROW({', '.join(rollup.dimensions)}) AS text), 'UTF8'))"
    return (
        f"INSERT INTO {rollup.table} AS known (key, {columns}) SELECT {key}, {columns} "
        f"FROM ({rollup.by_span(rows)}) AS hours ON CONFLICT (at_us, key) DO UPDATE SET {rollup.added}"
    )


def _type(annotation: Any) -> str:
    """The SQL type of a field: what its struct says, None aside."""
    kinds = getattr(annotation, "__args__", (annotation,))
    return next((_TYPES[kind] for kind in kinds if kind in _TYPES), "text")


# A writer that is cut off in the midst of its transaction must not keep the lock.
_LOCK_AND_VERSION: Final = """
    SELECT set_config('idle_in_transaction_session_timeout', '30s', true), pg_advisory_xact_lock(%s),
    (SELECT version_num FROM alembic_version)"""
_REQUESTS: Final = _statement(
    RequestRow,
    "requests",
    "request_id",
    [
        *((rollup, rollup.of_rows("fresh")) for rollup in ROLLUPS if rollup.source == "requests"),
        *((rollup, outcome_known(rollup, "fresh")) for rollup in ROWS),
    ],
)
_ROWS: Final = _statement(
    LedgerRow,
    "ledger_rows",
    "row_id",
    [(rollup, rollup.of_rows("fresh")) for rollup in ROLLUPS if rollup.source == "ledger_rows"],
)
