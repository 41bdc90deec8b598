"""What a request asked for that says how long its answer may get: its bound, how many answers, its features."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("requests", sa.Column("max_tokens", big, nullable=True))
    op.add_column("requests", sa.Column("sequences", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("requests", sa.Column("features", sa.Text(), nullable=False, server_default="[]"))


def downgrade() -> None:
    for name in ("features", "sequences", "max_tokens"):
        op.drop_column("requests", name)
