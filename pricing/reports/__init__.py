"""Roll-ups of the ledger that add up to it."""
