"""Append-only rows: what was spent, on what, for whom, under which policy and price book."""
