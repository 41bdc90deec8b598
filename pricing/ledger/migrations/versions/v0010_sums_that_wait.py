"""Latencies of all tenants together by day; and up to which row a file's sums reach, which all rows so far are in.

PostgreSQL adds rows to the sums as they come in, and needs no such mark.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


DIMENSIONS = ("request_class", "tier", "pool", "model", "gpu", "what", "bucket")
DAY_US = 86_400_000_000


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
    for table, number in (("ledger_rows", "seq"), ("requests", "rowid")):
        op.execute(f"INSERT INTO summed SELECT '{table}', coalesce(max({number}), 0) FROM {table}")


def downgrade() -> None:
    """A program that is stopped has added all that waited."""
    op.drop_table("latency_days")
    if _is_file():
        op.drop_table("summed")


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
