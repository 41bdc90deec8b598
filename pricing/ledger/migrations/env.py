"""Alembic runs this file; the connection comes from `pricing.ledger.upgrade`, never from a URL in a file."""

from __future__ import annotations

from alembic import context

from pricing.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
