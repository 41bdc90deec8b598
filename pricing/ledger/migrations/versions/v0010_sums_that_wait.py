"""Up to which row a file's sums by hour reach; all rows so far are in them.

PostgreSQL adds rows to the sums as they come in, and needs no such table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
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
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("summed")
