"""Where a service's money is kept: in one file of its own, or in what replicas share. The settings say which."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.policy import Policy
from pricing.budgets.account import CapWarning
from pricing.budgets.caps import CapTable
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.meters_outage import OutageMeters
from pricing.budgets.outage import OutageStore, StoreState
from pricing.budgets.sqlite import SqliteStore
from pricing.clock import Clock
from pricing.ledger.rows import LedgerRow
from pricing.meter.meters import Meters
from router.service.settings import Settings
from router.service.shared import Shared

OnWarn = Callable[[CapWarning], None]
OnChange = Callable[[StoreState], None]
OnHouse = Callable[[Sequence[LedgerRow]], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The store as everything above sees it, and its meters. `shared` is there where replicas share them."""

    store: OutageStore
    meters: Meters
    shared: Shared | None = None

    def on_posted(self, told: OnHouse) -> None:
        """Tell of the rows that this process writes: those of the house, and in a shared ledger others among them."""
        if self.shared is not None:
            self.shared.drainer.on_rows = told
        elif isinstance(self.meters, LocalMeters):
            self.meters.on_posted = told

    async def start(self) -> None:
        """Reach for the store once; where it is not there, it is down, and `keep_up` goes on trying."""
        await self.store.recover()

    def apply(self, policy: Policy) -> None:
        """Take a policy's allowance and promise into force."""
        self.store.allow(policy.store.allowance_nusd)
        if self.shared is not None:
            self.shared.durability = policy.store.durability

    async def aclose(self) -> None:
        """Raises StoreUnavailable, once everything is closed, for what could not be written."""
        try:
            await self.store.aclose()
        finally:
            if self.shared is not None:
                await self.shared.aclose()


def make_parts(settings: Settings, clock: Clock, caps: CapTable, on_warn: OnWarn, on_change: OnChange) -> Parts:
    """Raises StoreUnavailable for a file that is another process's or cannot be read; servers need not be there yet."""
    if settings.redis is None:
        return _embedded(settings, clock, caps, on_warn, on_change)
    return _shared(settings, clock, caps, on_warn, on_change)


def _embedded(settings: Settings, clock: Clock, caps: CapTable, on_warn: OnWarn, on_change: OnChange) -> Parts:
    assert isinstance(settings.ledger, Path)  # settings are one or the other
    store = SqliteStore(settings.ledger, clock, caps, on_warn=on_warn)
    outage = OutageStore(store, clock, caps, store.meters, on_change=on_change, jitter=_jitter)
    return Parts(outage, store.meters)


def _shared(settings: Settings, clock: Clock, caps: CapTable, on_warn: OnWarn, on_change: OnChange) -> Parts:
    shared = Shared(settings, clock, caps, on_warn)
    here = LocalMeters(clock, _posted_elsewhere)
    outage = OutageStore(
        shared.store,
        clock,
        caps,
        here,
        on_change=on_change,
        jitter=_jitter,
        begin=shared.begin,
        metered_beside=True,
    )
    return Parts(outage, OutageMeters(shared.meters, here), shared)


async def _posted_elsewhere(_: object) -> None:
    """Boot and idle are the shared meters' to post."""


def _jitter() -> float:
    """From a half to one: replicas that lost a store together do not come back in step."""
    return 0.5 + random.random() / 2
