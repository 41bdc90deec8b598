"""What the router believes about one pool at one instant: a frozen snapshot for `decide`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from pools.live.engine_metrics import EngineLoad

OVERLOADED: Final = "overloaded"  # the reason of a breaker that is open for a moment, because the pool asked for that


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class PoolState(msgspec.Struct, frozen=True):
    """A snapshot of one pool. Defaults describe a pool that is asleep and healthy.

    `shapes_open` holds the shape buckets (see `shape_bucket`) that are cooling down after out-of-memory;
    `shapes_retry_s` the longest of their remaining cooldowns.
    """

    ready: int = 0  # containers that can serve now
    booting: int = 0
    in_flight: int = 0  # requests dispatched and not ended
    kv_tokens_in_flight: int = 0  # predicted tokens of those requests
    boot_left_s: float | None = None  # expected seconds until the first booting container serves
    idle_s: float | None = None  # seconds since its last request ended, or it was ready; None: neither, or busy
    breaker: BreakerState = BreakerState.CLOSED
    breaker_retry_s: float = 0.0
    breaker_reason: str = ""  # OVERLOADED while it pauses for that
    probed: bool = False  # its breaker is half open, and the one request that may try is out
    misconfigured: bool = False  # the breaker is open, or half open, because our files are wrong about the pool
    most_in_flight: int | None = None  # what it was found to take at once, where that is less than it should
    kv_ceiling: int | None = None  # KV tokens a container was found to hold, where that is less than it should
    shapes_open: frozenset[int] = frozenset()
    shapes_retry_s: float = 0.0
    features_off: frozenset[str] = frozenset()  # features found missing at run time
    drained: bool = False  # an operator took it out
    deployed: bool = True  # it has an endpoint
    wakeable: bool = True  # somebody starts a container when it has none
    ttft_s: float | None = None  # observed first-token time, moving average
    serving_since_us: int | None = None  # wall instant since which its oldest ready container serves
    engine: EngineLoad | None = None  # what its engine said of itself a moment ago
    foreign_in_flight: int = 0  # requests that its engines have beyond those dispatched from here
    foreign_kv_share: float = 0.0  # of its cache, 0 to 1, that they are taken to fill
    as_of_us: int = 0

    @property
    def cold(self) -> bool:
        return self.ready == 0

    @property
    def company(self) -> int:
        """Requests in flight there, whoever sent them."""
        return self.in_flight + self.foreign_in_flight

    @property
    def alive(self) -> int:
        return self.ready + self.booting


COLD_AND_HEALTHY = PoolState()


def shape_bucket(tokens: int) -> int:
    """The power-of-two bucket of prompt + output bound, as its exponent: 12 holds 2049 to 4096 tokens."""
    return max(0, tokens - 1).bit_length()
