"""Shared meters, with one of this process beside them for attempts that were let run while the store was down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pricing.budgets.meters_local import LocalMeters
from pricing.errors import StoreUnavailable
from pricing.ledger.rows import LedgerRow
from pricing.meter.meters import Charge, Meters, Phase, PoolLoad, Reading
from pricing.prices.billed import ALL_BILLED, Billed


class OutageMeters:
    """`Meters` over `shared`. Attempts that entered `here` are metered here to their end, on the same containers.

    The shared meters know nothing of them and call their time idle; what is billed for that is taken out again when
    they are written, see `pricing.budgets.outage`.
    """

    def __init__(self, shared: Meters, here: LocalMeters) -> None:
        self._shared = shared
        self._here = here

    def set_rate(
        self, pool: str, at_us: int, rate_nusd_per_h: int, target_concurrency: int, billed: Billed = ALL_BILLED
    ) -> None:
        self._shared.set_rate(pool, at_us, rate_nusd_per_h, target_concurrency, billed)
        self._here.set_rate(pool, at_us, rate_nusd_per_h, target_concurrency, billed)

    def set_containers(self, pool: str, at_us: int, ready: int, booting: int, listed: bool = False) -> None:
        self._shared.set_containers(pool, at_us, ready, booting, listed)
        self._here.set_containers(pool, at_us, ready, booting, listed)

    def missed(self, pool: str, phase: Phase, duration_us: int) -> None:
        self._shared.missed(pool, phase, duration_us)

    def listed(self, pool: str, at_us: int) -> None:
        self._shared.listed(pool, at_us)
        self._here.listed(pool, at_us)

    async def leave(self, pool: str, member: str) -> Charge:
        """Raises StoreUnavailable for an attempt of the shared meters while they cannot be reached."""
        return await (self._here if member in self._here else self._shared).leave(pool, member)

    async def read(self, members: Sequence[tuple[str, str]]) -> Mapping[str, Reading]:
        """Never raises StoreUnavailable: attempts that cannot be asked after are left out."""
        here = [(pool, member) for pool, member in members if member in self._here]
        readings = dict(await self._here.read(here)) if here else {}
        there = [pair for pair in members if pair not in here] if here else members
        try:
            readings.update(await self._shared.read(there))
        except StoreUnavailable:
            return readings
        return readings

    def elsewhere(self, pool: str) -> PoolLoad:
        return self._shared.elsewhere(pool)

    async def post_house(self, labels: Mapping[str, LedgerRow]) -> None:
        await self._shared.post_house(labels)
