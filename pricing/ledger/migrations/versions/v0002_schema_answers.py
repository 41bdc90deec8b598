"""Whether a JSON schema was asked for, and how each attempt's answer kept to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger_rows", sa.Column("schema_result", sa.Text(), nullable=True))
    op.add_column("requests", sa.Column("schema_asked", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("requests", "schema_asked")
    op.drop_column("ledger_rows", "schema_result")
