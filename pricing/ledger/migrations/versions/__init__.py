"""One script per version of the ledger's tables."""
