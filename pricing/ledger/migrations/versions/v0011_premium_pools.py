"""The premium pools that a policy had, which the baselines of its requests rest on.

Nobody noted them before: NULL, until such a version is put in force once more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("policy_versions", sa.Column("premium", sa.Text()))


def downgrade() -> None:
    op.drop_column("policy_versions", "premium")
