"""The ledger against what the provider billed: where they differ, why, and how they are made equal."""
