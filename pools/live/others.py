"""What a replica hears of the others, and tells them, about pools that they share. With one replica: nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pricing.meter.meters import NO_LOAD, PoolLoad

Elsewhere = Callable[[str], PoolLoad]  # pool -> what other replicas run there, from memory


def nothing_elsewhere(_: str) -> PoolLoad:
    """This replica is the only one."""
    return NO_LOAD


class ShapeReports(Protocol):
    """Where out-of-memory is reported for other replicas to hear of. Returns at once; reports go out by themselves."""

    def out_of_memory(self, pool: str, shape: int, cooldown_s: float) -> None:
        """An engine said so: the shape is out for the cooldown."""
        ...

    def engine_died(self, pool: str, largest_shape: int, cooldown_s: float) -> None:
        """A strike on the largest shape in flight; a second one on it, seen by whichever replica, counts as above."""
        ...


class WakeLeases(Protocol):
    """Who wakes a pool, where several replicas may want to."""

    async def claim_wake(self, pool: str, lease_s: float) -> bool:
        """Take the lease on waking a pool, or renew it; False where another replica has it. It ends by itself.

        Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Others:
    """The other replicas, as one pool meets them."""

    load: Callable[[], PoolLoad]
    shapes: ShapeReports | None


ALONE: Final = Others(lambda: NO_LOAD, None)
