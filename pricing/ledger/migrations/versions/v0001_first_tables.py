"""The first tables: money, requests, open holds, spend by bucket, warnings sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_ledger()
    if op.get_bind().dialect.name == "sqlite":  # replicas that share a PostgreSQL ledger keep these in Redis
        _create_budgets()


def _create_ledger() -> None:
    op.create_table(
        "ledger_rows",
        sa.Column("seq", Big, nullable=False),
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("at_us", Big, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("amount_nusd", Big, nullable=False),
        sa.Column("metered_nusd", Big, nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("gpu", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("price_books", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("request_class", sa.Text(), nullable=True),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("duration_us", Big, nullable=False),
        sa.Column("ttft_us", Big, nullable=True),
        sa.Column("prompt_tokens", Big, nullable=True),
        sa.Column("completion_tokens", Big, nullable=True),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("row_id"),
    )
    op.create_index(op.f("ix_ledger_rows_at_us"), "ledger_rows", ["at_us"], unique=False)
    op.create_index(
        "ix_ledger_rows_request_id",
        "ledger_rows",
        ["request_id"],
        unique=False,
        sqlite_where=sa.text("request_id IS NOT NULL"),
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at_us", Big, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("model_asked", sa.Text(), nullable=False),
        sa.Column("request_class", sa.Text(), nullable=False),
        sa.Column("tier_asked", sa.Text(), nullable=False),
        sa.Column("tier_served", sa.Text(), nullable=True),
        sa.Column("pool", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("duration_us", Big, nullable=False),
        sa.Column("prompt_tokens", Big, nullable=True),
        sa.Column("completion_tokens", Big, nullable=True),
        sa.Column("baseline_nusd", Big, nullable=True),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("decisions_json", sa.LargeBinary(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index(op.f("ix_requests_at_us"), "requests", ["at_us"], unique=False)


def _create_budgets() -> None:
    op.create_table(
        "holds",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("amount_nusd", Big, nullable=False),
        sa.Column("anchor_us", Big, nullable=False),
        sa.Column("lease_us", Big, nullable=False),
        sa.Column("lease_ends_us", Big, nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("on_expiry", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("hold_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spend",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("bucket", Big, nullable=False),
        sa.Column("nusd", Big, nullable=False),
        sa.PrimaryKeyConstraint("scope", "bucket"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "warnings",
        sa.Column("cap", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("quiet_until_us", Big, nullable=False),
        sa.PrimaryKeyConstraint("cap", "amount"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in ("warnings", "spend", "holds"):
            op.drop_table(table)
    for table in ("requests", "ledger_rows"):
        op.drop_table(table)
