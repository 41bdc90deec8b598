"""Circuit breakers as pure state machines: one for a pool, one for its shapes. Time is passed in.

A pool's breaker opens after a number of failures within a window. Some time later it is half open: one request, the
probe, may try; its success closes the breaker, its failure opens it again. An overloaded pool gets a short pause, and
one that our files are wrong about stays out until they are read again. A client's own short deadline says nothing
about a pool and never reaches this module. Instants are microseconds of a monotonic clock, durations seconds.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from pools.state import BreakerState
from pricing.clock import US_PER_S

# A stand-in for "until the files are read again": JSON has no infinity, and nobody should wait for it.
UNTIL_RELOAD_S: Final = 86_400.0
OVERLOAD_PAUSE_S: Final = 1.0  # where the pool does not say how long


class BreakerLimits(Protocol):
    """How many failures within `window_s` open the breaker, and when it is half open."""

    @property
    def failures(self) -> int: ...

    @property
    def window_s(self) -> float: ...

    @property
    def half_open_after_s(self) -> float: ...


class PoolBreaker:
    """Whether requests may go to one pool. `reason` says why not, for operators."""

    def __init__(self) -> None:
        self._failed_us: deque[int] = deque()
        self._opened_until_us: int | None = None  # half open from then on
        self._paused_until_us = 0  # overloaded; closed again from then on
        self._out_of_service: str | None = None
        self._probing = False
        self._reason = ""

    def state(self, now_us: int) -> BreakerState:
        """While the probe is out nobody else may try, so the breaker reads as open."""
        if self._out_of_service is not None or now_us < self._paused_until_us:
            return BreakerState.OPEN
        if self._opened_until_us is None:
            return BreakerState.CLOSED
        if now_us < self._opened_until_us or self._probing:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def reason(self, now_us: int) -> str:
        """Why it is not closed; empty where it is."""
        if self._out_of_service is not None:
            return f"{self._out_of_service}; until the files are reloaded"
        if now_us < self._paused_until_us:
            return "overloaded"
        return "" if self._opened_until_us is None else self._reason

    def retry_s(self, now_us: int) -> float:
        """Seconds until a request may try, 0 where it may now."""
        if self._out_of_service is not None:
            return UNTIL_RELOAD_S
        until_us = max(self._paused_until_us, self._opened_until_us or 0)
        return max(0, until_us - now_us) / US_PER_S

    def probe_began(self) -> None:
        """The one request of the half-open state is on its way."""
        self._probing = True

    def probe_ended(self) -> None:
        """It has ended; without a success or failure beside this call, another one may try."""
        self._probing = False

    def success(self, now_us: int) -> None:
        """The pool answered. Closes a breaker that is half open; an older request's success closes no open one."""
        if self._opened_until_us is not None and now_us >= self._opened_until_us:
            self._opened_until_us = None
            self._failed_us.clear()

    def failure(self, now_us: int, reason: str, limits: BreakerLimits) -> None:
        """The pool timed out or was unavailable."""
        if self._opened_until_us is not None:
            if now_us >= self._opened_until_us:
                self._open(now_us, reason, limits)
            return
        self._failed_us.append(now_us)
        while self._failed_us[0] <= now_us - limits.window_s * US_PER_S:
            self._failed_us.popleft()
        if len(self._failed_us) >= limits.failures:
            self._open(now_us, reason, limits)

    def overloaded(self, now_us: int, retry_after_s: float | None) -> None:
        """A pause as long as the pool asks for, or a second. It counts as no failure."""
        pause_s = OVERLOAD_PAUSE_S if retry_after_s is None else retry_after_s
        self._paused_until_us = max(self._paused_until_us, now_us + round(pause_s * US_PER_S))

    def out_of_service(self, reason: str) -> None:
        """Our files are wrong about this pool: open until `reloaded`."""
        self._out_of_service = reason

    def reloaded(self) -> None:
        """The files were read again, or what was wrong is known to be right now."""
        self._out_of_service = None

    def _open(self, now_us: int, reason: str, limits: BreakerLimits) -> None:
        self._opened_until_us = now_us + round(limits.half_open_after_s * US_PER_S)
        self._reason = reason
        self._failed_us.clear()


class ShapeBreaker:
    """Which shapes of one pool ran out of memory. A shape is a bucket of `pools.state.shape_bucket`.

    A certain out-of-memory closes a shape out at once. An engine that dies says less: the largest shape in flight
    gets a strike, and a second strike on the same shape counts as out of memory. Strikes fade after `STRIKE_LIFE_S`.
    """

    STRIKE_LIFE_S: Final = 1800.0  # longer than any reload of an engine, shorter than a change of the traffic
    # A death fails all requests in flight, each a little later than the other; a reload takes longer than this.
    SAME_DEATH_S: Final = 5.0

    def __init__(self) -> None:
        self._open_until_us: dict[int, int] = {}
        self._struck_us: dict[int, int] = {}
        self._died_us: int | None = None

    def open_shapes(self, now_us: int) -> frozenset[int]:
        self._open_until_us = {shape: until for shape, until in self._open_until_us.items() if until > now_us}
        return frozenset(self._open_until_us)

    def retry_s(self, now_us: int) -> float:
        """The longest remaining cooldown, seconds."""
        return max(0, max(self._open_until_us.values(), default=0) - now_us) / US_PER_S

    def out_of_memory(self, shape: int, now_us: int, cooldown_s: float) -> None:
        """The engine said so."""
        self._open_until_us[shape] = now_us + round(cooldown_s * US_PER_S)
        self._struck_us.pop(shape, None)

    def out_elsewhere(self, shape: int, now_us: int, left_s: float) -> None:
        """Another replica knows that the shape is out, for so long; what is known here stands where it is longer."""
        until_us = now_us + round(left_s * US_PER_S)
        self._open_until_us[shape] = max(until_us, self._open_until_us.get(shape, 0))
        self._struck_us.pop(shape, None)

    def engine_died(self, largest_shape: int, now_us: int, cooldown_s: float) -> bool:
        """A strike on the largest shape in flight; True where it is the second, and the shape is now out.

        Further reports of one death, as each of its requests makes, count as that death.
        """
        if self._died_us is not None and now_us - self._died_us < self.SAME_DEATH_S * US_PER_S:
            return False
        self._died_us = now_us
        struck_us = self._struck_us.get(largest_shape)
        if struck_us is not None and now_us - struck_us < self.STRIKE_LIFE_S * US_PER_S:
            self.out_of_memory(largest_shape, now_us, cooldown_s)
            return True
        self._struck_us[largest_shape] = now_us
        return False
