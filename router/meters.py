"""Every pool's meter, the rate it runs at, and the container time that no request caused.

Boots and idle containers go to the house in rows of its own, so that a pool's rows add up to its alive seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter

from policies.policy import Policy, RateChange
from pools.containers import Phase
from pools.spec import PoolSpec
from pricing.clock import Clock
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.meter import PoolMeter
from pricing.rates import ContainerRate


class Meters:
    """Instants are wall time in microseconds. A pool that left the policy keeps its meter, since it may still serve."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._meters: dict[str, PoolMeter] = {}
        self._rates: dict[str, ContainerRate] = {}
        self._specs: dict[str, PoolSpec] = {}
        self._due: list[RateChange] = []
        self._version = ""

    def __getitem__(self, pool: str) -> PoolMeter:
        return self._meters[pool]

    def rate(self, pool: str) -> ContainerRate:
        """The rate in force now, which a later price book may have changed since the policy was loaded."""
        return self._rates[pool]

    # -- policy ----------------------------------------------------------------------------------------------------

    def apply(self, policy: Policy) -> None:
        """Take a policy's pools and rates into force now."""
        self._version = policy.version
        self._due = sorted(policy.rate_changes, key=attrgetter("at_us"))
        self._specs.update(policy.pools)
        now_us = self._clock.wall_us()
        self._set_rates(policy.rates, now_us)
        for name, spec in policy.pools.items():
            self._meters[name].set_target(now_us, spec.target_concurrency)

    def apply_due_rates(self, now_us: int) -> None:
        """Put the price books into force whose time has come, each from its own instant on."""
        while self._due and self._due[0].at_us <= now_us:
            change = self._due.pop(0)
            self._set_rates(change.rates, change.at_us)

    def _set_rates(self, rates: Mapping[str, ContainerRate], at_us: int) -> None:
        for pool, rate in rates.items():
            meter = self._meters.get(pool)
            if meter is None:
                self._meters[pool] = PoolMeter(pool, rate.nusd_per_h, self._specs[pool].target_concurrency, at_us)
            elif rate.nusd_per_h != self._rates[pool].nusd_per_h:
                meter.set_rate(at_us, rate.nusd_per_h)
            self._rates[pool] = rate

    # -- containers ------------------------------------------------------------------------------------------------

    def containers_changed(self, pool: str, at_us: int, ready: int, booting: int) -> None:
        """The pool has other containers than before, since `at_us`."""
        if pool in self._meters:
            self._meters[pool].set_containers(at_us, ready, booting)

    def container_time_missed(self, pool: str, phase: Phase, duration_us: int) -> None:
        """Container time that was learnt of only now; it becomes an adjustment or a boot row."""
        if pool in self._meters:
            self._meters[pool].missed(phase, duration_us)

    def house_rows(self) -> list[LedgerRow]:
        """What boots and idle containers have cost since the last time, each amount handed out once."""
        now_us = self._clock.wall_us()
        return [row for pool in self._meters for row in self._house_rows(pool, now_us)]

    def _house_rows(self, pool: str, now_us: int) -> Iterable[LedgerRow]:
        cost, spec = self._meters[pool].drain(now_us), self._specs[pool]
        for kind, account, amount, duration_us in (
            (RowKind.BOOT, House.BOOT, cost.boot_nusd, cost.boot_us),
            (RowKind.IDLE, House.IDLE, cost.idle_nusd, cost.idle_us),
            (RowKind.ADJUSTMENT, House.ADJUSTMENT, cost.adjustment_nusd, cost.adjustment_us),
        ):
            if amount or duration_us:
                yield LedgerRow(
                    row_id=f"{pool}@{now_us}:0:{kind}",
                    at_us=now_us,
                    kind=kind,
                    account=account,
                    amount_nusd=amount,
                    metered_nusd=amount,
                    pool=pool,
                    gpu=spec.gpu.id,
                    model=spec.model.id,
                    policy_version=self._version,
                    price_books=self._rates[pool].book,
                    duration_us=duration_us,
                )
