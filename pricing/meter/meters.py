"""The meters of all pools of a store, wherever they are kept: in this process, or shared by replicas.

Attempts enter a meter with their hold (`pricing.budgets.store.OpenHold.meter`) and leave it by `leave`, which fixes
what they cost; a hold that ends takes along a member that has not left. Instants are wall time in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from pricing.ledger.rows import Evidence, LedgerRow
from pricing.prices.billed import ALL_BILLED, Billed

Phase = Literal["boot", "ready"]


class Reading(msgspec.Struct, frozen=True):
    """A running attempt's meter: nano-dollars so far, and what it pays per hour just now, rounded up."""

    accrued_nusd: int
    share_nusd_per_h: int


class Charge(msgspec.Struct, frozen=True):
    """What an attempt cost, nano-dollars, and what that rests on."""

    nusd: int
    evidence: Evidence


class PoolLoad(msgspec.Struct, frozen=True):
    """Attempts that run in a pool, and the KV tokens that they are predicted to take."""

    running: int
    kv_tokens: int


NO_LOAD: Final = PoolLoad(0, 0)


class Meters(Protocol):
    """What is told of pools is taken in at once, or sent on its way. A step that waits raises StoreUnavailable where
    meters that are kept elsewhere cannot be reached.
    """

    def set_rate(
        self, pool: str, at_us: int, rate_nusd_per_h: int, target_concurrency: int, billed: Billed = ALL_BILLED
    ) -> None:
        """A pool's price, what is billed, and requests per container from an instant on; a new pool begins there."""
        ...

    def set_containers(self, pool: str, at_us: int, ready: int, booting: int, listed: bool = False) -> None:
        """The containers from an instant on; `listed`: by a platform, which shows every replica the same list.

        A pool that was never given a rate is left alone, here and in `missed`.
        """
        ...

    def missed(self, pool: str, phase: Phase, duration_us: int) -> None:
        """Container time that was learnt of only now, see `pricing.meter.pool.PoolMeter.missed`."""
        ...

    def listed(self, pool: str, at_us: int) -> None:
        """A platform's list came and shows what was told of this pool, see `pricing.meter.pool.PoolMeter.listed`."""
        ...

    async def leave(self, pool: str, member: str) -> Charge:
        """An attempt's work is done. Asked again, it gives the same answer.

        Raises HoldEnded where nothing is known of the attempt: it never entered, or its hold ended long ago.
        """
        ...

    async def read(self, members: Sequence[tuple[str, str]]) -> Mapping[str, Reading]:
        """(pool, member) pairs to readings by member; those that no longer run are left out."""
        ...

    def elsewhere(self, pool: str) -> PoolLoad:
        """What other replicas run in a pool. From memory, as last heard; never waits."""
        ...

    async def post_house(self, labels: Mapping[str, LedgerRow]) -> None:
        """Write what boots and idle containers have cost since the last time, each amount once.

        `labels` is, per pool, a row with what rows of the house say of it; kind, account, amounts, time, id, evidence
        and boots are filled in.
        """
        ...
