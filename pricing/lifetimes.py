"""Container counts are learnt by looking every so often; this brings a pool's meter in line with what really lived.

Between two looks the meter goes on with the counts of the last one. Each look compares the time that the
containers lived through, phase by phase, with the time that the meter counted, and hands the difference to
`PoolMeter.missed`: charges already settled stay, the boot row and the adjustment row take it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pricing.meter import PoolMeter


class ContainerLife(Protocol):
    """One container alive: microseconds of the meter's clock; `ready_us` None while it boots."""

    @property
    def id(self) -> str: ...

    @property
    def started_us(self) -> int: ...

    @property
    def ready_us(self) -> int | None: ...


class ContainerWatch:
    """Follows one pool's containers for its meter, from `now_us` on; earlier container time is not this ledger's."""

    def __init__(self, meter: PoolMeter, now_us: int) -> None:
        self._meter = meter
        self._looked_us = now_us
        self._seen: dict[str, ContainerLife] = {}
        self._counted = self._count(now_us)

    def observe(self, now_us: int, containers: Iterable[ContainerLife]) -> None:
        """Take the containers alive now. One that is gone since the last look counts as alive until now."""
        alive = {container.id: container for container in containers}
        gone = [container for name, container in self._seen.items() if name not in alive]
        boot_us = ready_us = 0
        for container in (*alive.values(), *gone):
            booted, served = self._lived(container, now_us)
            boot_us += booted
            ready_us += served
        counted_boot_us, counted_ready_us = self._count(now_us)
        self._meter.missed("boot", boot_us - (counted_boot_us - self._counted[0]))
        self._meter.missed("ready", ready_us - (counted_ready_us - self._counted[1]))
        ready = sum(_is_ready(container, now_us) for container in alive.values())
        self._meter.set_containers(now_us, ready, len(alive) - ready)
        self._seen = alive
        self._looked_us = max(self._looked_us, now_us)
        self._counted = self._count(now_us)

    def _lived(self, container: ContainerLife, now_us: int) -> tuple[int, int]:
        """Microseconds of boot and of ready time since the last look."""
        ready_at_us = now_us if container.ready_us is None else min(container.ready_us, now_us)
        booted = max(0, ready_at_us - max(container.started_us, self._looked_us))
        return booted, max(0, now_us - max(ready_at_us, self._looked_us))

    def _count(self, now_us: int) -> tuple[int, int]:
        totals = self._meter.totals(now_us)
        return totals.boot_us, totals.busy_us + totals.idle_us


def _is_ready(container: ContainerLife, now_us: int) -> bool:
    return container.ready_us is not None and container.ready_us <= now_us
