"""What readers of a ledger are given, whichever database it is in.

A `Reader` takes the same SQL whether the ledger is a SQLite file or a PostgreSQL database: parameters are written `?`
or `:name`, and what the two say differently has a method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from pricing.errors import StoreUnavailable
from pricing.ledger.place import LedgerPlace
from pricing.ledger.upgrade import HEAD

Values = Sequence[Any] | Mapping[str, Any]
Span = Literal["hour", "day", "month"]


class Found(Protocol):
    """What a statement found."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Reader(Protocol):
    """A ledger at one moment, with the sums by hour of `pricing.ledger.rollups`."""

    def execute(self, statement: str, values: Values = ()) -> Found: ...

    def utc_text(self, column: str, span: Span) -> str:
        """SQL: a column of microseconds as `2026-01-31T23:00Z`, `2026-01-31` or `2026-01`."""
        ...

    def in_hours(self, since_us: int, until_us: int) -> str:
        """SQL: that `at_us` of a sum by hour lies in a window of whole hours, said so that beside a condition on its
        tenant as few sums of others are read as the database can.
        """
        ...


def check_version(place: LedgerPlace, version: str | None) -> None:
    """Raises StoreUnavailable for tables of another version than this program reads."""
    if version is None:
        raise StoreUnavailable(
            f"{place} is no ledger: it has none of its tables; name another one, or create them with "
            "`sluice ledger upgrade`"
        )
    if version != HEAD:
        raise StoreUnavailable(
            f"ledger {place} has tables of version {version}, this program reads version {HEAD}; "
            "`sluice serve` and `sluice ledger upgrade` upgrade an older one"
        )
