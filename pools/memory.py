"""Does a pool's model fit its GPUs, and how many KV tokens are left. Arithmetic from the catalogue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The arithmetic of one pool, GiB over all its GPUs.

    `kv_tokens` is how many tokens of KV cache one container holds (0 for media models); `largest_max_model_len` the
    longest context at which one request still fits. When `loads` is False, `problem` states the arithmetic and
    `remedy` the placements that would do.
    """

    loads: bool
    weights_gib: float
    overhead_gib: float
    budget_gib: float  # usable memory × utilisation
    kv_gib: float
    kv_bytes_per_token: int
    kv_tokens: int
    largest_max_model_len: int
    state_mib_per_sequence: float = 0.0
    problem: str | None = None
    remedy: str | None = None

    def concurrency_at(self, context_tokens: int) -> int:
        """How many requests of `context_tokens` one container holds at once."""
        per_request = context_tokens * self.kv_bytes_per_token + self.state_mib_per_sequence * 2**20
        return int(self.kv_gib * 2**30 // per_request) if per_request > 0 else 0
