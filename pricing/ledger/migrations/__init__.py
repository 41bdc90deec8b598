"""Alembic scripts that create and upgrade ledger files; run by `pricing.ledger.upgrade`."""
