"""The pools' meters as the policy wants them: the rate each runs at, what is told of containers, rows of the house.

Boots and idle containers go to the house in rows of its own, so that a pool's rows add up to its alive seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from policies.policy import Policy, RateChange
from pools.spec import PoolSpec
from pricing.clock import Clock
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.meter.meters import Meters, Phase
from pricing.prices.rates import ContainerRate


class MeteredPools:
    """Instants are wall time in microseconds. A pool that left the policy keeps its meter, since it may still serve."""

    def __init__(self, meters: Meters, clock: Clock) -> None:
        self.meters = meters
        self._clock = clock
        self._rates: dict[str, ContainerRate] = {}
        self._specs: dict[str, PoolSpec] = {}
        self._told: dict[str, tuple[int, int]] = {}
        self._metered: set[str] = set()
        self._due: list[RateChange] = []
        self._version = ""

    def rate(self, pool: str) -> ContainerRate:
        """The rate in force now, which a later price book may have changed since the policy was loaded."""
        return self._rates[pool]

    def apply(self, policy: Policy) -> None:
        """Take a policy's pools and rates into force now."""
        self._version = policy.version
        self._due = sorted(policy.rate_changes, key=attrgetter("at_us"))
        self._specs.update(policy.pools)
        self._set_rates(policy.rates, self._clock.wall_us())

    def apply_due_rates(self, now_us: int) -> None:
        """Put the price books into force whose time has come, each from its own instant on."""
        while self._due and self._due[0].at_us <= now_us:
            change = self._due.pop(0)
            self._set_rates(change.rates, change.at_us)

    def _set_rates(self, rates: Mapping[str, ContainerRate], at_us: int) -> None:
        for pool, rate in rates.items():
            before = self._rates.get(pool)
            self._rates[pool] = rate
            if rate.tokens is None:
                target = self._specs[pool].target_concurrency
                self.meters.set_rate(pool, at_us, rate.nusd_per_h, target, rate.billed)
                self._metered.add(pool)
                if before is not None and before.tokens is not None:
                    self.meters.set_containers(pool, at_us, *self._told.get(pool, (0, 0)))
            elif pool in self._metered:
                self.meters.set_containers(pool, at_us, 0, 0)

    # -- containers ------------------------------------------------------------------------------------------------

    def set_containers(self, pool: str, at_us: int, ready: int, booting: int, listed: bool = False) -> None:
        """The containers from an instant on. A pool that is billed by the token has none that anybody pays for."""
        self._told[pool] = (ready, booting)
        if not self._by_tokens(pool):
            self.meters.set_containers(pool, at_us, ready, booting, listed)

    def missed(self, pool: str, phase: Phase, duration_us: int) -> None:
        """Container time that was learnt of only now."""
        if not self._by_tokens(pool):
            self.meters.missed(pool, phase, duration_us)

    def listed(self, pool: str, at_us: int) -> None:
        """A platform's list came that shows what was told."""
        if not self._by_tokens(pool):
            self.meters.listed(pool, at_us)

    def ended(self, pool: str, boot_us: int, ready_us: int) -> None:
        """So long has a container booted, and been ready, that a platform listed; its provider may round that up."""
        rate = self._rates.get(pool)
        more_us = 0 if rate is None else rate.rounding_us(boot_us, ready_us)
        if more_us:
            self.missed(pool, "ready", more_us)

    def _by_tokens(self, pool: str) -> bool:
        rate = self._rates.get(pool)
        return rate is not None and rate.tokens is not None

    async def post_house(self) -> None:
        """Write what boots and idle containers have cost. Raises StoreUnavailable; nothing is lost then."""
        await self.meters.post_house({pool: self._label(pool, self._rates[pool]) for pool in sorted(self._metered)})

    def _label(self, pool: str, rate: ContainerRate) -> LedgerRow:
        spec = self._specs[pool]
        return LedgerRow(
            row_id="",
            at_us=0,
            kind=RowKind.IDLE,
            account=House.IDLE,
            amount_nusd=0,
            metered_nusd=0,
            pool=pool,
            gpu=spec.gpu.id,
            model=spec.model.id,
            policy_version=self._version,
            price_books=rate.book,
        )
