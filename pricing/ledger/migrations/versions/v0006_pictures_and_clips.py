"""What a request for pictures or clips got: how many, how long they play, their pixels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = ("images", "clips", "video_us", "media_pixels")


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    for table in _tables():
        for name in COLUMNS:
            op.add_column(table, sa.Column(name, big, nullable=False, server_default="0"))


def downgrade() -> None:
    for table in _tables():
        for name in reversed(COLUMNS):
            op.drop_column(table, name)


def _tables() -> tuple[str, ...]:
    """The sums by hour are PostgreSQL's alone."""
    return ("requests",) if op.get_bind().dialect.name == "sqlite" else ("requests", "request_hours")
