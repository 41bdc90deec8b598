"""What stands beside the lines of a report: how pools were used, what failed, how long answers took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pricing.ledger.latencies import quantile
from pricing.ledger.rows import House
from pricing.money import US_PER_HOUR
from pricing.reports.query import Key, Query

HOURS_PER_DAY: Final = 24


@dataclass(frozen=True, slots=True)
class PoolUse:
    """One pool in the window: nano-dollars by phase, container microseconds of boot and idle, boots that began."""

    pool: str
    window_us: int
    busy_nusd: int = 0
    boot_nusd: int = 0
    idle_nusd: int = 0
    adjustment_nusd: int = 0
    boot_us: int = 0
    idle_us: int = 0
    boots: int = 0

    @property
    def alive_nusd(self) -> int:
        """What its containers cost while they were alive: what the provider bills."""
        return self.busy_nusd + self.boot_nusd + self.idle_nusd + self.adjustment_nusd

    @property
    def utilisation(self) -> float | None:
        """Busy ÷ alive, each second at its rate; None for a pool that was not alive."""
        return self.busy_nusd / self.alive_nusd if self.alive_nusd > 0 else None

    @property
    def boots_per_hour(self) -> float:
        return self.boots * US_PER_HOUR / self.window_us

    @property
    def boots_per_day(self) -> float:
        return self.boots_per_hour * HOURS_PER_DAY

    @property
    def boot_s(self) -> float | None:
        """Mean seconds of a boot; None where none began."""
        return self.boot_us / 1e6 / self.boots if self.boots else None


def pool_uses(query: Query, window_us: int) -> tuple[PoolUse, ...]:
    """Every pool of the window, dearest first."""
    found: dict[str, PoolUse] = {}
    for pool, account, (amount_nusd, duration_us, boots) in query.pools():
        use = found.get(pool, PoolUse(pool, window_us))
        match account:
            case House.BOOT:
                found[pool] = replace(use, boot_nusd=amount_nusd, boot_us=duration_us, boots=boots)
            case House.IDLE:
                found[pool] = replace(use, idle_nusd=amount_nusd, idle_us=duration_us)
            case House.ADJUSTMENT:
                found[pool] = replace(use, adjustment_nusd=amount_nusd)
            case _:
                found[pool] = replace(use, busy_nusd=amount_nusd)
    return tuple(sorted(found.values(), key=lambda use: (-use.alive_nusd, use.pool)))


@dataclass(frozen=True, slots=True)
class Failure:
    """Attempts of one group that ended in one failure class, or were cut, and who paid for them."""

    key: Key
    failure: str
    attempts: int
    charged_nusd: int
    house_nusd: int


def failures_of(query: Query, by: Sequence[str]) -> tuple[Failure, ...]:
    """By group and failure class, the most frequent first."""
    sums: dict[tuple[Key, str], tuple[int, int, int]] = {}
    for key, failure, (attempts, charged_nusd, house_nusd) in query.failures(by):
        before = sums.get((key, failure), (0, 0, 0))
        sums[key, failure] = (before[0] + attempts, before[1] + charged_nusd, before[2] + house_nusd)
    found = (Failure(*group, *each) for group, each in sums.items())
    return tuple(sorted(found, key=lambda each: (-each.attempts, each.failure, each.key)))


class Timed(StrEnum):
    """What `pricing.ledger.latencies` counts."""

    REQUEST = "request"
    FIRST_TOKEN = "first_token"
    TOKENS_PER_S = "tokens_per_s"


@dataclass(frozen=True, slots=True)
class Latency:
    """One group's distributions: milliseconds, and thousandths of a token a second, within 1%."""

    counts: Mapping[Timed, Mapping[int, int]] = field(default_factory=dict)

    def at(self, what: Timed, share: float) -> float | None:
        """Seconds, or tokens a second, that this share of all did not exceed; None without any."""
        value = quantile(self.counts.get(what, {}), share)
        return None if value is None else value / 1e3


def latencies_of(query: Query, by: Sequence[str]) -> dict[Key, Latency]:
    """By group, and under the empty key of all together. Raises ValueError where too many rows would be read."""
    counts: dict[Key, dict[Timed, dict[int, int]]] = {(): {}}
    for key, what, bucket, count in query.latencies(by):
        for group in {key, ()}:
            kept = counts.setdefault(group, {}).setdefault(Timed(what), {})
            kept[bucket] = kept.get(bucket, 0) + count
    return {key: Latency(each) for key, each in counts.items()}
