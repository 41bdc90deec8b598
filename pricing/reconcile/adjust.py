"""Rows that bring the ledger to a bill: one for each pool, hour and resource, added and never changed.

A row's amount is what the ledger lacks, its `metered_nusd` what the bill says beyond the rows before it; a row is due
where either is not 0. So a second run with the same bill has nothing to write, and one with a bill that changed, or
after rows that came late, writes the difference under the next number.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from pricing.budgets.journal import Change, write
from pricing.budgets.lockfile import FileLock
from pricing.clock import US_PER_S
from pricing.errors import StoreUnavailable
from pricing.ledger.place import LedgerPlace, PostgresUrl, connect_existing
from pricing.ledger.read import is_there
from pricing.ledger.rows import RECONCILED, Evidence, House, LedgerRow, RowKind
from pricing.ledger.sums_file import teach
from pricing.prices.resources import Resource
from pricing.reconcile.booked import Booked, BookedHour
from pricing.reconcile.compare import Comparison
from pricing.reports.focus_groups import Group


def adjustments(comparison: Comparison, booked: Booked) -> list[LedgerRow]:
    """The rows that are due, by hour, pool and resource."""
    labels = booked.labels()
    return [
        row
        for compared in comparison.hours
        for row in _of_hour(
            compared.pool,
            compared.at_us,
            booked.hours.get((compared.pool, compared.at_us)) or BookedHour(),
            compared.bill,
            labels.get(compared.pool),
        )
    ]


def _of_hour(
    pool: str, at_us: int, hour: BookedHour, bill: Counter[Resource], label: Group | None
) -> Iterator[LedgerRow]:
    targets = _targets(hour, bill)
    for resource in sorted({*targets, *hour.metered, *hour.written}):
        amount_nusd = targets.get(resource, 0) - hour.ledger(resource)
        metered_nusd = targets.get(resource, 0) - hour.billed[resource]
        if amount_nusd or metered_nusd:
            yield LedgerRow(
                row_id=_row_id(pool, at_us, resource, hour.written[resource]),
                at_us=at_us,
                kind=RowKind.ADJUSTMENT,
                account=House.ADJUSTMENT,
                amount_nusd=amount_nusd,
                metered_nusd=metered_nusd,
                pool=pool,
                gpu=label.gpu if label else "",
                model=label.model if label else "",
                policy_version=label.policy_version if label else "",
                price_books=label.price_books if label else "",
                outcome=RECONCILED + resource,
                evidence=Evidence.OBSERVED,
            )


def _targets(hour: BookedHour, bill: Mapping[Resource, int]) -> Mapping[Resource, int]:
    """What each resource is to come to: the bill's. A bill that tells no resources apart leaves those that were booked
    as they are, and its difference to them stands apart.
    """
    if set(bill) != {Resource.CONTAINER} or Resource.CONTAINER in hour.metered:
        return bill
    known = {resource: nusd for resource, nusd in hour.metered.items() if nusd}
    return {**known, Resource.CONTAINER: bill[Resource.CONTAINER] - sum(known.values())}


def _row_id(pool: str, at_us: int, resource: Resource, before: int) -> str:
    hour = datetime.fromtimestamp(at_us // US_PER_S, UTC).strftime("%Y-%m-%dT%HZ")
    number = f":{before + 1}" if before else ""
    return f"reconcile:{pool}:{hour}:{resource}{number}"


@contextmanager
def alone(place: LedgerPlace) -> Iterator[None]:
    """Nobody else writes into a file meanwhile, so that what was read is what is added to; a database takes any number.

    Raises StoreUnavailable while an endpoint has the file.
    """
    if isinstance(place, PostgresUrl):
        yield
        return
    if not (is_there(place) and place.is_file()):
        raise StoreUnavailable(f"no ledger at {place}; name one with --ledger or SLUICE_LEDGER")
    lock = FileLock(place)
    try:
        yield
    finally:
        lock.release()


def write_rows(place: LedgerPlace, rows: Sequence[LedgerRow]) -> None:
    """Add rows and their sums in one transaction; a row id that is there already changes nothing.

    Call it within `alone`. Raises StoreUnavailable.
    """
    if not rows:
        return
    if isinstance(place, PostgresUrl):
        asyncio.run(_write_database(place, rows))
        return
    try:
        connection = connect_existing(place, "rw")
        try:
            teach(connection)
            write(connection, [Change(rows=list(rows))])
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"ledger {place} cannot be written: {error}") from error


async def _write_database(url: PostgresUrl, rows: Sequence[LedgerRow]) -> None:
    from pricing.ledger.insert import insert_directly
    from pricing.ledger.postgres import connect_async, in_our_words

    connection = await connect_async(url)
    try:
        with in_our_words(url):
            await insert_directly(connection, rows)
    finally:
        await connection.close()
