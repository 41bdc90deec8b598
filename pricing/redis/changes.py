"""What restoring budgets changes, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to a scope's buckets or to a sum, nano-dollars. `field` is of the hash `sums`; '' where none is."""

    scope: str
    buckets: dict[int, int]
    sums: str = ""
    field: str = ""
    nusd: int = 0

    @property
    def name(self) -> str:
        """Whose money it is."""
        return self.scope or f"{self.sums} {self.field}"

    @property
    def total_nusd(self) -> int:
        return self.nusd or sum(self.buckets.values())
