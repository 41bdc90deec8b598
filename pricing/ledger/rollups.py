"""Sums by hour and by day that a ledger keeps beside its rows, so that a month's report reads no single row.

Each is a table whose columns are named like those of the rows it sums, so that one query reads either. `at_us` is the
first instant of an hour or a day in UTC; a dimension that a row lacks is the empty text. They are written from the rows
that were really inserted: in PostgreSQL by the transaction that inserts them (`pricing.ledger.insert`), in a file a
little later (`pricing.ledger.sums_file`). `sluice ledger verify` holds them against the rows.

A row of money is often older than the summary of its request, as when its attempt failed: until then `request_outcome`
is `unfinished`. When the summary comes, what those rows had added moves to the outcome (`outcome_known`), and leaves a
sum of no rows behind, which `between` leaves out.

The SQL here is understood alike by SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pricing.ledger.latencies import BASE, SMALLEST
from pricing.ledger.rows import RowKind, SchemaResult
from pricing.money import US_PER_HOUR

INTEGERS: Final = ("bucket",)  # the dimensions that are no text
US_PER_DAY: Final = 24 * US_PER_HOUR
UNFINISHED: Final = "unfinished"  # the outcome of a request that has no summary yet


Within = Callable[[int, int], Sequence[str]]
"""SQL conditions by which the sums of whole hours, or days, from one instant to before another are found."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """Sums of the rows of `source` by spans of time and `dimensions`; these and `sums` are column names with SQL over
    one row.

    `counts` says which rows count, `kept` which rows of `table` are of this roll-up, and are there at all. `days` has
    the same columns by day.
    """

    table: str
    source: str
    dimensions: Mapping[str, str]
    sums: Mapping[str, str]
    counts: str = ""
    kept: str = ""
    span_us: int = US_PER_HOUR
    days: Rollup | None = None

    def sum(self, name: str, rolled: bool) -> str:
        """SQL: one of `sums`, over the roll-up or over the rows themselves."""
        return f"sum({name if rolled else self.sums[name]})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table, without a key that it may have besides."""
        return ("at_us", *self.dimensions, *self.sums)

    def between(self, since_us: int, until_us: int, *, days: bool = False) -> str:
        """SQL: a window in the columns of the roll-up, see `between`."""
        return between([self], since_us, until_us, days=days)

    def of_table(self, *conditions: str) -> str:
        """SQL: what is kept."""
        return _of_table([self], *conditions)

    def of_rows(self, source: str, *conditions: str, sign: int = 1, **dimensions: str) -> str:
        """SQL: rows as they are, in the columns of the roll-up; or, with `sign` -1, what takes them out of it.

        `dimensions` replace those of the roll-up.
        """
        by = ", ".join(f"{sql} AS {name}" for name, sql in {**self.dimensions, **dimensions}.items())
        sums = ", ".join(f"{sign} * ({sql}) AS {name}" for name, sql in self.sums.items())
        return f"SELECT at_us, {by}, {sums} FROM {source} AS one {_where(self.counts, *conditions)}"

    def by_span(self, rows: str) -> str:
        """SQL: the sums of what `of_rows` gives, by hour or day."""
        names = ", ".join(self.dimensions)
        sums = ", ".join(f"sum({name}) AS {name}" for name in self.sums)
        span = f"at_us / {self.span_us} * {self.span_us}"
        return f"SELECT {span} AS at_us, {names}, {sums} FROM ({rows}) AS each GROUP BY 1, {names}"

    @property
    def added(self) -> str:
        """SQL: what an upsert into the table, called `known`, sets."""
        return ", ".join(f"{name} = known.{name} + excluded.{name}" for name in self.sums)


def window(since_us: int, until_us: int) -> tuple[str, str]:
    """SQL: instants from one to before another."""
    return f"at_us >= {since_us}", f"at_us < {until_us}"


def between(
    rollups: Sequence[Rollup], since_us: int, until_us: int, *, days: bool = False, within: Within = window
) -> str:
    """SQL: a window of roll-ups by hour that have the same columns, and lie in the same tables, in these: whole hours
    from their sums, the ends from the rows. With `days`, for who asks for nothing shorter, whole days from the sums by
    day, where there are such. `within` says which sums are meant.
    """
    parts = list(_parts(rollups, since_us, until_us, days, within))
    return " UNION ALL ".join(parts or [each.of_rows(each.source, "1 = 0") for each in rollups])


def _parts(rollups: Sequence[Rollup], since_us: int, until_us: int, days: bool, within: Within) -> Iterator[str]:
    by_day = [each.days for each in rollups if each.days is not None] if days else []
    wide = by_day or rollups
    span_us = wide[0].span_us
    first_us, last_us = -(-since_us // span_us) * span_us, until_us // span_us * span_us
    if first_us < last_us:
        yield _of_table(wide, *within(first_us, last_us))
    else:
        first_us = last_us = until_us
    for begin_us, end_us in ((since_us, first_us), (last_us, until_us)):
        if by_day:
            yield from _parts(rollups, begin_us, end_us, False, within)
        elif begin_us < end_us:
            yield from (each.of_rows(each.source, *window(begin_us, end_us)) for each in rollups)


def _of_table(rollups: Sequence[Rollup], *conditions: str) -> str:
    """SQL: what is kept of roll-ups that share a table, which is read once."""
    kept = " OR ".join(each.kept for each in rollups if each.kept)
    columns, table = ", ".join(rollups[0].columns), rollups[0].table
    return f"SELECT {columns} FROM {table} {_where(f'({kept})' if kept else '', *conditions)}"


def outcome_known(rollup: Rollup, ended: str, *conditions: str) -> str:
    """SQL: what changes in sums of rows, as `of_rows` says it, when the summaries `ended` come after rows of theirs.

    `conditions` say which rows are in the sums; none: all.
    """
    mine = (f"request_id IN (SELECT request_id FROM {ended})", *conditions)
    outcome = f"(SELECT outcome FROM {ended} WHERE request_id = one.request_id)"
    before = rollup.of_rows("ledger_rows", *mine, sign=-1, request_outcome=f"'{UNFINISHED}'")
    return f"{before} UNION ALL {rollup.of_rows('ledger_rows', *mine, request_outcome=outcome)}"


def _where(*conditions: str) -> str:
    found = " AND ".join(condition for condition in conditions if condition)
    return f"WHERE {found}" if found else ""


def _texts(*names: str) -> dict[str, str]:
    return {name: f"coalesce({name}, '')" for name in names}


def _bucket(value: str) -> str:
    """`pricing.ledger.latencies.bucket_of` in SQL; no integer of microseconds lies halfway between two buckets."""
    number = f"CAST({value} AS double precision)"
    at_least = f"CASE WHEN {number} < {SMALLEST} THEN CAST({SMALLEST} AS double precision) ELSE {number} END"
    return f"CAST(round(ln({at_least}) / ln(CAST({BASE} AS double precision))) AS bigint)"


def _with_days(table: str, hours: Rollup) -> Rollup:
    """A roll-up by hour that is kept by day as well, in that table."""
    return replace(hours, days=replace(hours, table=table, span_us=US_PER_DAY))


def _spans(hours: Rollup) -> tuple[Rollup, ...]:
    """A roll-up by hour, and by day."""
    return (hours,) if hours.days is None else (hours, hours.days)


def _latency(source: str, what: str, value: str, counts: str, **dimensions: str) -> Rollup:
    by = {**_texts("tenant", "key_id", "request_class", "tier", "pool", "model", "gpu"), **dimensions}
    return Rollup(
        table="latency_hours",
        source=source,
        dimensions={**by, "what": f"'{what}'", "bucket": _bucket(value)},
        sums={"count": "1"},
        counts=counts,
        kept=f"what = '{what}'",
    )


_OF_ALL: Final = ("request_class", "tier", "pool", "model", "gpu", "what", "bucket")
ROWS_BY_HOUR: Final = _with_days(
    "ledger_days",
    Rollup(
        table="ledger_hours",
        source="ledger_rows",
        dimensions={
            **_texts(
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
                "price_books",
                "tags",
                "evidence",
            ),
            "request_outcome": "CASE WHEN request_id IS NULL THEN '' ELSE coalesce("
            f"(SELECT r.outcome FROM requests r WHERE r.request_id = one.request_id), '{UNFINISHED}') END",
        },
        sums={
            "row_count": "1",
            "amount_nusd": "amount_nusd",
            "metered_nusd": "metered_nusd",
            "duration_us": "duration_us",
            "prompt_tokens": "coalesce(prompt_tokens, 0)",
            "cached_prompt_tokens": "cached_prompt_tokens",
            "completion_tokens": "coalesce(completion_tokens, 0)",
            "estimated_rows": "CASE WHEN estimated THEN 1 ELSE 0 END",
            "estimated_nusd": "CASE WHEN estimated THEN amount_nusd ELSE 0 END",
            **{
                f"schema_{result}": f"CASE WHEN schema_result = '{result}' THEN 1 ELSE 0 END" for result in SchemaResult
            },
            "boots": "boots",
        },
        kept="row_count <> 0",
    ),
)
REQUESTS_BY_HOUR: Final = _with_days(
    "request_days",
    Rollup(
        table="request_hours",
        source="requests",
        dimensions=_texts(
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
            "gpu",
            "model",
            "tags",
        ),
        sums={
            "request_count": "1",
            "attempts": "attempts",
            "prompt_tokens": "coalesce(prompt_tokens, 0)",
            "cached_prompt_tokens": "cached_prompt_tokens",
            "completion_tokens": "coalesce(completion_tokens, 0)",
            "baseline_nusd": "coalesce(baseline_nusd, 0)",
            "duration_us": "duration_us",
            "fallbacks": "CASE WHEN attempts > 1 THEN attempts - 1 ELSE 0 END",
            "fell_back": "CASE WHEN attempts > 1 THEN 1 ELSE 0 END",
            "continued": "continued",
            "images": "images",
            "clips": "clips",
            "video_us": "video_us",
            "media_pixels": "media_pixels",
        },
    ),
)
_ANSWERED: Final = f"kind = '{RowKind.ATTEMPT}' AND outcome = 'answered'"
LATENCIES: Final = (
    _latency(
        "requests",
        "request",
        "duration_us / 1e3",
        "outcome = 'served'",
        tier="coalesce(nullif(tier_served, ''), tier_asked)",
    ),
    _latency("ledger_rows", "first_token", "ttft_us / 1e3", f"{_ANSWERED} AND ttft_us IS NOT NULL"),
    # Of streams, what came after the first token; of other answers, all of it.
    _latency(
        "ledger_rows",
        "tokens_per_s",
        "1e9 * (completion_tokens - CASE WHEN ttft_us IS NULL THEN 0 ELSE 1 END) / "
        "(duration_us - coalesce(ttft_us, 0))",
        f"{_ANSWERED} AND completion_tokens > 1 AND duration_us > coalesce(ttft_us, 0)",
    ),
)
"""How long served requests took from their arrival to their end, how long answers took from dispatch to their first
token, and how fast they were written, in the buckets of `pricing.ledger.latencies`."""
LATENCIES_OF_ALL: Final = tuple(
    _with_days("latency_days", replace(each, dimensions={name: each.dimensions[name] for name in _OF_ALL}))
    for each in LATENCIES
)
"""The same of all tenants and keys together. By day they are sums of their own: some ten thousand a day, where those by
tenant and hour are nearly as many as the rows."""
ROWS: Final = _spans(ROWS_BY_HOUR)
REQUESTS: Final = _spans(REQUESTS_BY_HOUR)
LATENCY_DAYS: Final = tuple(each.days for each in LATENCIES_OF_ALL if each.days is not None)
ROLLUPS: Final = (*ROWS, *REQUESTS, *LATENCIES, *LATENCY_DAYS)
"""All that a ledger keeps."""
