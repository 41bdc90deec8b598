"""On PostgreSQL: which budgets in Redis belong to this ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":  # its budgets are in the same file
        return
    op.create_table(
        "installations",
        sa.Column("namespace", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.drop_table("installations")
