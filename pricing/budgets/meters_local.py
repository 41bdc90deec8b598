"""The meters of a store that one process owns: every pool's `PoolMeter`, in its memory. No step suspends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from pricing.budgets.store import MeterEntry
from pricing.clock import Clock
from pricing.errors import HoldEnded
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.meter.meters import NO_LOAD, Charge, Phase, PoolLoad, Reading
from pricing.meter.pool import PoolMeter
from pricing.prices.billed import ALL_BILLED, Billed

REMEMBERED_CHARGES: Final = 16_384  # of members that have left, for whoever asks again

Post = Callable[[Sequence[LedgerRow]], Awaitable[None]]


def _ignore(_: Sequence[LedgerRow]) -> None:
    """Nobody asked to be told of rows."""


class LocalMeters:
    """`Meters` in this process. `post` writes rows of the house, each row id once; `on_posted` is told of them then."""

    def __init__(self, clock: Clock, post: Post) -> None:
        self._clock = clock
        self._post = post
        self._meters: dict[str, PoolMeter] = {}
        self._running: dict[str, tuple[str, int]] = {}  # pool and when it entered, of the members that run
        self._charges: dict[str, Charge] = {}
        self._unposted: list[LedgerRow] = []
        self.on_posted: Callable[[Sequence[LedgerRow]], None] = _ignore

    # -- pools -----------------------------------------------------------------------------------------------------

    def set_rate(
        self, pool: str, at_us: int, rate_nusd_per_h: int, target_concurrency: int, billed: Billed = ALL_BILLED
    ) -> None:
        meter = self._meters.get(pool)
        if meter is None:
            self._meters[pool] = PoolMeter(pool, rate_nusd_per_h, target_concurrency, at_us, billed)
        else:
            meter.set_rate(at_us, rate_nusd_per_h, billed)
            meter.set_target(at_us, target_concurrency)

    def set_containers(self, pool: str, at_us: int, ready: int, booting: int, listed: bool = False) -> None:
        if pool in self._meters:
            self._meters[pool].set_containers(at_us, ready, booting, listed=listed)

    def missed(self, pool: str, phase: Phase, duration_us: int) -> None:
        if pool in self._meters:
            self._meters[pool].missed(phase, duration_us)

    def listed(self, pool: str, at_us: int) -> None:
        if pool in self._meters:
            self._meters[pool].listed(at_us)

    def bills_idle(self, pool: str) -> bool:
        """Whether time in which a pool's containers serve nobody is paid for; not in one that has no rate here."""
        return pool in self._meters and self._meters[pool].bills_idle

    # -- members ---------------------------------------------------------------------------------------------------

    def __contains__(self, member: str) -> bool:
        """Whether it runs here, or did so not long ago."""
        return member in self._running or member in self._charges

    def enter(self, entry: MeterEntry, member: str) -> None:
        """An attempt's hold was granted. Raises KeyError for a pool without a rate, ValueError for one that runs."""
        now_us = self._clock.wall_us()
        self._meters[entry.pool].enter(now_us, member, entry.weight)
        self._running[member] = (entry.pool, now_us)

    async def leave(self, pool: str, member: str) -> Charge:
        self.drop(member)
        charge = self._charges.get(member)
        if charge is None:
            raise HoldEnded(f"attempt {member} is not known to the meter of pool {pool}")
        return charge

    def drop(self, member: str) -> None:
        """A hold has ended: its member leaves, if it has not done so."""
        running = self._running.pop(member, None)
        if running is None:
            return
        pool, entered_us = running
        meter = self._meters[pool]
        self._charges[member] = Charge(meter.leave(self._clock.wall_us(), member), meter.evidence(entered_us))
        if len(self._charges) > REMEMBERED_CHARGES:
            del self._charges[next(iter(self._charges))]

    async def read(self, members: Sequence[tuple[str, str]]) -> Mapping[str, Reading]:
        now_us = self._clock.wall_us()
        readings: dict[str, Reading] = {}
        for pool, member in members:
            if member in self._running:
                meter = self._meters[pool]
                accrued_nusd = meter.accrued(now_us, member)
                readings[member] = Reading(accrued_nusd, meter.share_nusd_per_h(now_us, member))
        return readings

    def elsewhere(self, pool: str) -> PoolLoad:
        return NO_LOAD

    # -- the house -------------------------------------------------------------------------------------------------

    async def post_house(self, labels: Mapping[str, LedgerRow]) -> None:
        """Rows that cannot be written wait for the next time."""
        now_us = self._clock.wall_us()
        for pool, label in labels.items():
            self._unposted += house_rows(self._meters[pool], label, now_us)
        if self._unposted:
            await self._post(self._unposted)
            posted, self._unposted = self._unposted, []
            self.on_posted(posted)


def house_rows(meter: PoolMeter, label: LedgerRow, now_us: int) -> Iterator[LedgerRow]:
    """What no request of a pool caused since the last time, each amount handed out once."""
    cost = meter.drain(now_us)
    for kind, account, amount_nusd, duration_us in (
        (RowKind.BOOT, House.BOOT, cost.boot_nusd, cost.boot_us),
        (RowKind.IDLE, House.IDLE, cost.idle_nusd, cost.idle_us),
        (RowKind.ADJUSTMENT, House.ADJUSTMENT, cost.adjustment_nusd, cost.adjustment_us),
    ):
        if amount_nusd or duration_us or (kind is RowKind.BOOT and cost.boots):
            yield replace(
                label,
                row_id=f"{meter.pool}@{now_us}:0:{kind}",
                at_us=now_us,
                kind=kind,
                account=account,
                amount_nusd=amount_nusd,
                metered_nusd=amount_nusd,
                duration_us=duration_us,
                boots=cost.boots if kind is RowKind.BOOT else 0,
                evidence=cost.evidence,
            )
