"""Latencies of all tenants together by day; and up to which row a file's sums reach, which all rows so far are in.

PostgreSQL adds rows to the sums as they come in, and needs no such mark.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pricing.ledger.migrations.versions import v0008_sums_by_hour as hours

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


DIMENSIONS = ("request_class", "tier", "pool", "model", "gpu", "what", "bucket")
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
NUMBERS = {"ledger_rows": "seq", "requests": "rowid"}
CACHED = {"cached_prompt_tokens": "cached_prompt_tokens"}  # since 0009


def upgrade() -> None:
    _create_latency_days()
    if not _is_file():
        return
    op.create_table(
        "summed",
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("up_to", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
    for table, number in NUMBERS.items():
        op.execute(f"INSERT INTO summed SELECT '{table}', coalesce(max({number}), 0) FROM {table}")


def downgrade() -> None:
    """What waits is added first, as a program that was killed left it: an older one does not know that any does."""
    op.drop_table("latency_days")
    if _is_file():
        _add_what_waits()
        op.drop_table("summed")


def _add_what_waits() -> None:
    """To the sums of 0009, whose columns are those of 0008 and one more."""
    for span, span_us in (("hours", HOUR_US), ("days", DAY_US)):
        _add(f"ledger_{span}", "ledger_rows", hours.ROW_DIMENSIONS, {**hours.ROW_SUMS, **CACHED}, span_us=span_us)
        _add(f"request_{span}", "requests", hours.REQUEST_DIMENSIONS, {**hours.REQUEST_SUMS, **CACHED}, span_us=span_us)
    for what, table, value, counts, tier in hours.LATENCIES:
        known = {"what": f"'{what}'", "bucket": hours.bucket(value), "tier": tier}
        _add("latency_hours", table, hours.LATENCY_DIMENSIONS, {"count": "1"}, f"AND {counts}", known)


def _add(
    table: str,
    source: str,
    dimensions: tuple[str, ...],
    sums: dict[str, str],
    counts: str = "",
    known: dict[str, str] | None = None,
    span_us: int = HOUR_US,
) -> None:
    sql = {name: f"coalesce({name}, '')" for name in dimensions} | {"request_outcome": hours.OUTCOME} | (known or {})
    rows = ", ".join(f"{sql.get(name) or sums[name]} AS {name}" for name in (*dimensions, *sums))
    names, added = ", ".join(dimensions), ", ".join(f"sum({name}) AS {name}" for name in sums)
    waits = f"{NUMBERS[source]} > (SELECT up_to FROM summed WHERE source = '{source}') {counts}"
    op.execute(
        f"INSERT INTO {table} AS known ({', '.join(('at_us', *dimensions, *sums))}) "
        f"SELECT at_us / {span_us} * {span_us} AS at_us, {names}, {added} "
        f"FROM (SELECT at_us, {rows} FROM {source} AS one WHERE {waits}) AS each GROUP BY 1, {names} "
        f"ON CONFLICT (at_us, {names}) DO UPDATE SET "
        f"{', '.join(f'{name} = known.{name} + excluded.{name}' for name in sums)}"
    )


def _create_latency_days() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    key = [] if _is_file() else [sa.Column("key", sa.LargeBinary(), nullable=False)]
    op.create_table(
        "latency_days",
        sa.Column("at_us", big, nullable=False),
        *key,
        *(sa.Column(name, big if name == "bucket" else sa.Text(), nullable=False) for name in DIMENSIONS),
        sa.Column("count", big, nullable=False),
        sa.PrimaryKeyConstraint("at_us", *(DIMENSIONS if _is_file() else ("key",))),
        sqlite_with_rowid=False,
    )
    names = ", ".join(DIMENSIONS)
    days = (
        f"SELECT at_us / {DAY_US} * {DAY_US} AS at_us, {names}, CAST(sum(count) AS bigint) AS count "
        f"FROM latency_hours GROUP BY 1, {names}"
    )
    columns = f"at_us, {names}, count"
    if _is_file():
        op.execute(f"INSERT INTO latency_days ({columns}) {days}")
    else:
        digest = f"sha256(convert_to(CAST(ROW({names}) AS text), 'UTF8'))"
        op.execute(f"INSERT INTO latency_days (key, {columns}) SELECT {digest}, {columns} FROM ({days}) AS days")


def _is_file() -> bool:
    return op.get_bind().dialect.name == "sqlite"
