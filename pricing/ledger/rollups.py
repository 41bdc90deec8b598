"""Sums by hour that a PostgreSQL ledger keeps beside its rows, so that a month's report reads no single row.

Each is a table whose columns are named like those of the rows it sums, so that one query reads either. `at_us` is the
first instant of an hour in UTC; a dimension that a row lacks is the empty text. They are written in the transaction
that inserts the rows (`pricing.ledger.insert`), from the rows that were really inserted, and `sluice ledger verify`
holds them against the rows. A SQLite ledger has none: its reports read the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pricing.ledger.rows import SchemaResult
from pricing.money import US_PER_HOUR


@dataclass(frozen=True, slots=True)
class Rollup:
    """Sums of the rows of `source` by hour and `dimensions`; `sums` are column names with SQL over one row.

    A column `key`, the digest of the dimensions, keeps the primary key short whatever a client calls its model.
    """

    table: str
    source: str
    dimensions: tuple[str, ...]
    sums: Mapping[str, str]

    def sum(self, name: str, rolled: bool) -> str:
        """SQL: one of `sums`, over the roll-up or over the rows themselves."""
        return f"sum({name if rolled else self.sums[name]})"

    def between(self, since_us: int, until_us: int) -> str:
        """SQL: a window in the columns of the roll-up, its whole hours from there and its ends from the rows."""
        first_us, last_us = -(-since_us // US_PER_HOUR) * US_PER_HOUR, until_us // US_PER_HOUR * US_PER_HOUR
        if first_us >= last_us:
            return self.of_rows(self.source, _window(since_us, until_us))
        columns = ", ".join(("at_us", *self.dimensions, *self.sums))
        return (
            f"SELECT {columns} FROM {self.table} {_window(first_us, last_us)} "
            f"UNION ALL {self.of_rows(self.source, _window(since_us, first_us))} "
            f"UNION ALL {self.of_rows(self.source, _window(last_us, until_us))}"
        )

    def of_rows(self, source: str, where: str = "") -> str:
        """SQL: rows as they are, in the columns of the roll-up."""
        dimensions = ", ".join(f"coalesce({name}, '') AS {name}" for name in self.dimensions)
        sums = ", ".join(f"{expression} AS {name}" for name, expression in self.sums.items())
        return f"SELECT at_us, {dimensions}, {sums} FROM {source} {where}"

    def by_hour(self, source: str) -> str:
        """SQL: the sums of rows by hour, without the key."""
        names = ", ".join(self.dimensions)
        sums = ", ".join(f"sum({name}) AS {name}" for name in self.sums)
        return (
            f"SELECT at_us / {US_PER_HOUR} * {US_PER_HOUR} AS at_us, {names}, {sums} "
            f"FROM ({self.of_rows(source)}) AS one GROUP BY 1, {names}"
        )


def _window(since_us: int, until_us: int) -> str:
    return f"WHERE at_us >= {since_us} AND at_us < {until_us}"


ROWS_BY_HOUR: Final = Rollup(
    table="ledger_hours",
    source="ledger_rows",
    dimensions=(
        "account",
        "tenant",
        "key_id",
        "request_class",
        "tier",
        "pool",
        "gpu",
        "model",
        "kind",
        "outcome",
        "policy_version",
    ),
    sums={
        "row_count": "1",
        "amount_nusd": "amount_nusd",
        "metered_nusd": "metered_nusd",
        "duration_us": "duration_us",
        "prompt_tokens": "coalesce(prompt_tokens, 0)",
        "completion_tokens": "coalesce(completion_tokens, 0)",
        "estimated_rows": "CASE WHEN estimated THEN 1 ELSE 0 END",
        **{f"schema_{result}": f"CASE WHEN schema_result = '{result}' THEN 1 ELSE 0 END" for result in SchemaResult},
    },
)
REQUESTS_BY_HOUR: Final = Rollup(
    table="request_hours",
    source="requests",
    dimensions=(
        "tenant",
        "key_id",
        "endpoint",
        "model_asked",
        "request_class",
        "tier_asked",
        "tier_served",
        "pool",
        "outcome",
        "policy_version",
    ),
    sums={
        "request_count": "1",
        "attempts": "attempts",
        "prompt_tokens": "coalesce(prompt_tokens, 0)",
        "completion_tokens": "coalesce(completion_tokens, 0)",
        "baseline_nusd": "coalesce(baseline_nusd, 0)",
        "duration_us": "duration_us",
        "continued": "continued",
        "images": "images",
        "clips": "clips",
        "video_us": "video_us",
        "media_pixels": "media_pixels",
    },
)
ROLLUPS: Final = (ROWS_BY_HOUR, REQUESTS_BY_HOUR)
