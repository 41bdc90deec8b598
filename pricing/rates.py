"""What one container costs per hour, put together from a price book's GPU, CPU and memory rates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContainerRate:
    """Rate of one container of a pool, nano-dollars per hour, multipliers already applied to each part.

    `nusd_per_h` is the sum of the three parts. `notes` says what the book does not state (and is counted 0).
    """

    nusd_per_h: int
    gpu_nusd_per_h: int
    cpu_nusd_per_h: int
    memory_nusd_per_h: int
    book: str
    notes: tuple[str, ...] = ()
