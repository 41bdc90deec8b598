"""What can go wrong at a pool, and the one place that tells which it was."""
