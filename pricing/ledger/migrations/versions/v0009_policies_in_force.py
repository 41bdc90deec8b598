"""Which policies were in force, and how many prompt tokens a provider's cache had.

Nobody noted either before, so that rows of before have no cached tokens, and the history begins with the next start.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COUNTING = ("ledger_rows", "requests", "ledger_hours", "ledger_days", "request_hours", "request_days")


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    for table in COUNTING:
        op.add_column(table, sa.Column("cached_prompt_tokens", big, nullable=False, server_default="0"))
    op.create_table(
        "policy_versions",
        sa.Column("version", sa.Text(), primary_key=True),
        sa.Column("price_book", sa.Text(), nullable=False),
        sa.Column("first_us", big, nullable=False),
        sa.Column("first_replica", sa.Text(), nullable=False),
        sa.Column("latest_us", big, nullable=False),
        sa.Column("latest_replica", sa.Text(), nullable=False),
        sa.Column("files", sa.Text()),
        sa.Column("bytes", big, nullable=False),
    )
    op.create_index("ix_policy_versions_latest_us", "policy_versions", ["latest_us"])


def downgrade() -> None:
    op.drop_table("policy_versions")
    for table in COUNTING:
        op.drop_column(table, "cached_prompt_tokens")
