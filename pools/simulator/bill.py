"""What the simulated provider bills: container seconds by phase, from start to stop, boot included unless it is free.

The figures come from the simulator's own clock and events alone. They are what a router's books are held against, so
nothing here is shared with the router's meter, ledger or money code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

US_PER_HOUR = 3_600_000_000


class Phase(Enum):
    BOOT = "boot"
    IDLE = "idle"
    BUSY = "busy"  # at least one request is in the container


class PhaseClock:
    """One container's time by phase, in whole microseconds: the phases partition its life, so they add up exactly."""

    def __init__(self, started_us: int) -> None:
        self.phase = Phase.BOOT
        self.since_us = started_us
        self._spent_us = dict.fromkeys(Phase, 0)

    def move(self, phase: Phase, at_us: int) -> None:
        """Close the present phase at an instant not before it began, and open another."""
        self._spent_us[self.phase] += at_us - self.since_us
        self.phase = phase
        self.since_us = at_us

    def spent_us(self, phase: Phase, now_us: int) -> int:
        return self._spent_us[phase] + (now_us - self.since_us if phase is self.phase else 0)


@dataclass(slots=True)
class PoolBill:
    """One pool's container time, and its price at `rate_nusd_per_h` for each container. `free` phases cost nothing."""

    rate_nusd_per_h: int
    boot_us: int = 0
    busy_us: int = 0
    idle_us: int = 0
    free: frozenset[Phase] = frozenset()

    def add(self, clock: PhaseClock, until_us: int) -> None:
        self.boot_us += clock.spent_us(Phase.BOOT, until_us)
        self.busy_us += clock.spent_us(Phase.BUSY, until_us)
        self.idle_us += clock.spent_us(Phase.IDLE, until_us)

    @property
    def alive_us(self) -> int:
        return self.boot_us + self.busy_us + self.idle_us

    @property
    def billed_us(self) -> int:
        spent_us = {Phase.BOOT: self.boot_us, Phase.BUSY: self.busy_us, Phase.IDLE: self.idle_us}
        return sum(us for phase, us in spent_us.items() if phase not in self.free)

    @property
    def billed_nusd(self) -> int:
        """Billed time × rate, rounded half up to a nano-dollar."""
        return (self.billed_us * self.rate_nusd_per_h + US_PER_HOUR // 2) // US_PER_HOUR

    def as_json(self) -> dict[str, Any]:
        return {
            "boot_us": self.boot_us,
            "busy_us": self.busy_us,
            "idle_us": self.idle_us,
            "alive_us": self.alive_us,
            "free": sorted(phase.value for phase in self.free),
            "rate_nusd_per_h": self.rate_nusd_per_h,
            "billed_nusd": self.billed_nusd,
        }
