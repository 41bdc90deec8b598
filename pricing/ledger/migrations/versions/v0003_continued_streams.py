"""How often a request's stream broke and went on at another pool, and how often of these from its text."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("continued", "continued_by_text"):
        op.add_column("requests", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("continued_by_text", "continued"):
        op.drop_column("requests", name)
