"""The pools that a policy had, with what they cost, each list once for all versions that share it.

Nobody noted them before: NULL, until such a version is put in force once more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policy_pools",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("pools", sa.Text(), nullable=False),
    )
    op.add_column("policy_versions", sa.Column("pools", sa.Text()))


def downgrade() -> None:
    op.drop_column("policy_versions", "pools")
    op.drop_table("policy_pools")
