"""The pools' meters that replicas share: one clock a pool, kept in Redis and turned by scripts (`lua/meter.lua`).

Attempts enter with their hold, in the store's script, and a hold that ends or expires takes its member along, so that
the members of a replica that died end with their leases.

What platforms list is told by one replica, the observer, who holds a short lease that its looks at the meters renew:
every replica sees the same list, and if all told it, corrections would count as often. What answers tell of a pool that
nobody lists may be said by any replica, the latest word counts, and every replica hears of it with its next look.
Prices are the observer's too; a pool without a price gets it from whoever comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pricing.clock import US_PER_S, Clock
from pricing.errors import HoldEnded, StoreUnavailable
from pricing.ledger.entries import value_json
from pricing.ledger.rows import Evidence, LedgerRow
from pricing.meter.meters import NO_LOAD, Charge, Phase, PoolLoad, Reading
from pricing.prices.billed import ALL_BILLED, Billed
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.outbox import Outbox
from pricing.redis.steps import Steps

OBSERVER_LEASE_S: Final = 5.0  # a few ticks: how long nobody tells what a list says when the observer has died
DEAREST_NUSD_PER_H: Final = 1 << 41  # what the script counts exactly: $2,199 an hour for one container
_PER_POOL: Final = 5  # figures of a pool before those of its members, in a reply of meter_read


class Heard(NamedTuple):
    """What all replicas together know of a pool. `idle_us`: since the last attempt ended; None while any runs, and
    before the first.
    """

    pool: str
    ready: int
    booting: int
    idle_us: int | None


class _Told(NamedTuple):
    """A word on its way to the meters. `number` grows from word to word, over restarts too."""

    number: int
    kind: str
    pool: str
    mono_us: int
    first: int | str
    second: int
    more: str


class _Price(NamedTuple):
    rate_nusd_per_h: int
    target_concurrency: int
    free: str  # phases that are not billed, as words


class SharedMeters:
    """`Meters` in Redis, as one replica sees them. `replica` is the owner of the holds that its store opens.

    `now` gives the instants of all steps, microseconds since the epoch; None: the server's clock does. `on_heard` is
    told of every pool with each look. Belongs to one event loop.
    """

    def __init__(
        self,
        client: RedisClient,
        namespace: str,
        replica: str,
        clock: Clock,
        *,
        now: Callable[[], int] | None = None,
        on_heard: Callable[[Heard], None] | None = None,
    ) -> None:
        self.on_heard = on_heard
        self.observes = False
        self._steps = Steps(client, namespace, clock, now)
        self._replica = replica
        self._clock = clock
        self._rates: dict[str, _Price] = {}
        self._listed: dict[str, tuple[int, int]] = {}  # ready and booting, by the platform's list
        self._elsewhere: dict[str, PoolLoad] = {}
        self._words = Outbox(client, self._send)
        self._number = clock.wall_us()
        self._said: dict[str, int] = {}  # the latest word of each pool

    # -- pools -----------------------------------------------------------------------------------------------------

    def set_rate(
        self, pool: str, at_us: int, rate_nusd_per_h: int, target_concurrency: int, billed: Billed = ALL_BILLED
    ) -> None:
        if not 0 <= rate_nusd_per_h < DEAREST_NUSD_PER_H:
            raise ValueError(f"pool {pool}: {rate_nusd_per_h} nano-dollars per hour are not counted exactly in Redis")
        price = _Price(rate_nusd_per_h, target_concurrency, " ".join(billed.free))
        if self._rates.get(pool) != price:
            self._rates[pool] = price
            self._tell_price(pool, at_us)

    def set_containers(self, pool: str, at_us: int, ready: int, booting: int, listed: bool = False) -> None:
        if pool not in self._rates:
            return
        if listed:
            self._listed[pool] = (ready, booting)
        if self.observes or not listed:
            self._tell("containers" if listed else "seen", pool, ready, booting, at_us)

    def missed(self, pool: str, phase: Phase, duration_us: int) -> None:
        if pool in self._rates and self.observes:
            self._tell("missed", pool, phase, duration_us)

    def listed(self, pool: str, at_us: int) -> None:
        if pool in self._rates and self.observes:
            self._tell("listed", pool, 0, 0, at_us)

    # -- members ---------------------------------------------------------------------------------------------------

    async def leave(self, pool: str, member: str) -> Charge:
        charge, observed, running, kv_tokens = await self._steps.run("meter_leave", pool, member, self._replica)
        self.heard_load(pool, PoolLoad(running, kv_tokens))
        if not charge:
            raise HoldEnded(f"attempt {member} is not known to the meter of pool {pool}")
        return Charge(int(charge), Evidence.OBSERVED if observed else Evidence.MODELLED)

    async def read(self, members: Sequence[tuple[str, str]]) -> Mapping[str, Reading]:
        """Also renews or takes the observer's lease, and hears what other replicas run."""
        await self.send_words()
        asked: dict[str, list[str]] = {pool: [] for pool in self._rates}
        for pool, member in members:
            asked[pool].append(member)
        number, lease_us = self._number, round(OBSERVER_LEASE_S * US_PER_S)
        words: list[Word] = [self._replica, lease_us]
        for pool, names in asked.items():
            words += [pool, len(names), *names]
        _, observes, *found = await self._steps.run("meter_read", *words)
        readings: dict[str, Reading] = {}
        for (pool, names), figures in zip(asked.items(), found, strict=True):
            if figures:
                self._hear(pool, figures, number)
                _note_readings(readings, names, figures)
            else:  # the server has lost what it was told
                self._tell_price(pool)
        self._observe(observes)
        return readings

    def elsewhere(self, pool: str) -> PoolLoad:
        return self._elsewhere.get(pool, NO_LOAD)

    def heard_load(self, pool: str, load: PoolLoad) -> None:
        """What other replicas run in a pool, from a reply of the store or of the meters."""
        self._elsewhere[pool] = load

    def _hear(self, pool: str, figures: Sequence[int], number: int) -> None:
        running, kv_tokens, ready, booting, idle_us = figures[:_PER_POOL]
        self.heard_load(pool, PoolLoad(running, kv_tokens))
        if self.on_heard is not None and self._said.get(pool, 0) <= number:
            self.on_heard(Heard(pool, ready, booting, None if idle_us < 0 else idle_us))

    # -- the house -------------------------------------------------------------------------------------------------

    async def post_house(self, labels: Mapping[str, LedgerRow]) -> None:
        """Amounts leave the meters and enter the ledger's stream in one script: no crash loses them, and no two
        replicas write the same.
        """
        await self.send_words()
        words: list[Word] = []
        for pool, label in labels.items():
            words += [pool, value_json(label)]
        await self._steps.run("meter_house", *words)

    # -- words -----------------------------------------------------------------------------------------------------

    async def send_words(self) -> None:
        """Send what has been told and is not sent yet, in its order. Raises StoreUnavailable; it is then kept."""
        await self._words.flush()

    async def aclose(self) -> None:
        """Send the last words, and hand the observer's lease back, where the server can be reached."""
        await self._words.aclose()
        if self.observes:
            with suppress(StoreUnavailable):
                await self._steps.run("observer_resign", self._replica)

    async def _send(self, batch: Sequence[_Told]) -> None:
        now_us = self._clock.mono_us()
        words: list[Word] = [self._replica]
        for told in batch:
            age_us = max(0, now_us - told.mono_us)
            words += [told.number, told.kind, told.pool, age_us, told.first, told.second, told.more]
        await self._steps.run("meter_tell", *words)

    def _tell_price(self, pool: str, at_us: int | None = None) -> None:
        price = self._rates[pool]
        self._tell("rate", pool, price.rate_nusd_per_h, price.target_concurrency, at_us, price.free)

    def _tell(
        self, kind: str, pool: str, first: int | str, second: int, at_us: int | None = None, more: str = ""
    ) -> None:
        age_us = 0 if at_us is None else max(0, self._clock.wall_us() - at_us)
        self._number += 1
        self._said[pool] = self._number
        self._words.put(_Told(self._number, kind, pool, self._clock.mono_us() - age_us, first, second, more))

    def _observe(self, answer: bytes) -> None:
        """A replica that has become the observer tells all it knows; one that is none any more has nothing to tell."""
        if answer == b"new" or (answer and not self.observes):
            for pool in self._rates:
                self._tell_price(pool)
            for pool, (ready, booting) in self._listed.items():
                self._tell("containers", pool, ready, booting)
        self.observes = bool(answer)


def _note_readings(readings: dict[str, Reading], names: Sequence[str], figures: Sequence[Any]) -> None:
    for place, name in enumerate(names):
        accrued, share = figures[_PER_POOL + 2 * place : _PER_POOL + 2 * place + 2]
        if accrued != b"":
            readings[name] = Reading(accrued, share)
