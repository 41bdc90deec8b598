"""On PostgreSQL: which entry of the stream a row came in, and sums by hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROW_DIMENSIONS = (
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
)
ROW_SUMS = (
    "row_count",
    "amount_nusd",
    "metered_nusd",
    "duration_us",
    "prompt_tokens",
    "completion_tokens",
    "estimated_rows",
    "schema_kept",
    "schema_broken",
    "schema_cut",
)
REQUEST_DIMENSIONS = (
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
)
REQUEST_SUMS = (
    "request_count",
    "attempts",
    "prompt_tokens",
    "completion_tokens",
    "baseline_nusd",
    "duration_us",
    "continued",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":  # its rows come in no stream, and its reports read them one by one
        return
    for table in ("ledger_rows", "requests"):
        op.add_column(table, sa.Column("stream_ms", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("stream_n", sa.BigInteger(), nullable=True))
    _create_hours("ledger_hours", ROW_DIMENSIONS, ROW_SUMS)
    _create_hours("request_hours", REQUEST_DIMENSIONS, REQUEST_SUMS)


def _create_hours(table: str, dimensions: tuple[str, ...], sums: tuple[str, ...]) -> None:
    op.create_table(
        table,
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in dimensions),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in sums),
        sa.PrimaryKeyConstraint("at_us", "key"),
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table in ("request_hours", "ledger_hours"):
        op.drop_table(table)
    for table in ("requests", "ledger_rows"):
        op.drop_column(table, "stream_n")
        op.drop_column(table, "stream_ms")
