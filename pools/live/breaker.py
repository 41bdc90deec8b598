"""Circuit breakers as pure state machines: one for a pool, one for its shapes. Time is passed in.

A pool's breaker opens after a number of failures within a window, if these are at least half of what ended there in it:
one tenant's bad requests among good ones of others prove nothing. An engine that died and a connection that was refused
need no such share, since no request asks for them. Some time later the breaker is half open: one request, the probe,
may try; the first word of its answer closes the breaker, its failure opens it again. An answer that comes whole says
nothing for long: while a probe is out, another one may try after every such time. An overloaded pool gets a short
pause; one that our files are wrong about is probed once a minute. A client's own short deadline says nothing about a
pool and never reaches this module. Instants are microseconds of a monotonic clock, durations seconds.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from pools.live.state import OVERLOADED, BreakerState
from pricing.clock import US_PER_S

MISCONFIGURED_PROBE_S: Final = 60.0  # a redeploy that mends it is found within a minute, by one failed request a minute
OVERLOAD_PAUSE_S: Final = 1.0  # where the pool does not say how long
PROBE_LOOK_S: Final = 1.0  # how long a probe may be out still; nobody knows
ENDED_BADLY_SHARE: Final = 0.5  # of what ended within the window


class BreakerLimits(Protocol):
    """How many failures within `window_s` open the breaker, and when it is half open."""

    @property
    def failures(self) -> int: ...

    @property
    def window_s(self) -> float: ...

    @property
    def half_open_after_s(self) -> float: ...


class _Tally:
    """How many things happened in the last seconds, counted by the second: a pool may answer thousands in a window."""

    def __init__(self) -> None:
        self._by_second: deque[tuple[int, int]] = deque()

    def add(self, now_us: int) -> None:
        second = now_us // US_PER_S
        count = self._by_second.pop()[1] if self._by_second and self._by_second[-1][0] == second else 0
        self._by_second.append((second, count + 1))

    def since(self, from_us: int) -> int:
        """Those of seconds that ended after `from_us`; what is older is forgotten."""
        while self._by_second and (self._by_second[0][0] + 1) * US_PER_S <= from_us:
            self._by_second.popleft()
        return sum(count for _, count in self._by_second)

    def clear(self) -> None:
        self._by_second.clear()


class PoolBreaker:
    """Whether requests may go to one pool. `reason` says why not, for operators."""

    def __init__(self) -> None:
        self._failed_us: deque[tuple[int, bool]] = deque()  # when, and whether nothing but the pool can be at fault
        self._answered = _Tally()
        self._opened_until_us: int | None = None  # half open from then on
        self._paused_until_us = 0  # overloaded; closed again from then on
        self._misconfigured = False
        self._probe: str | None = None
        self._probe_until_us = 0  # how long it is the only one
        self._half_open_after_us = 0
        self._reason = ""

    def state(self, now_us: int) -> BreakerState:
        """While the one probe is out nobody else may try, so the breaker reads as open."""
        if now_us < self._paused_until_us:
            return BreakerState.OPEN
        if self._opened_until_us is None:
            return BreakerState.CLOSED
        if now_us < self._opened_until_us or self._alone(now_us):
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def probed(self, now_us: int) -> bool:
        """Half open, and the one request that may try is out."""
        half_open = self._opened_until_us is not None and now_us >= self._opened_until_us
        return half_open and now_us >= self._paused_until_us and self._alone(now_us)

    @property
    def is_closed(self) -> bool:
        """Whether failures count towards opening it; a pause has nothing to do with that."""
        return self._opened_until_us is None

    @property
    def misconfigured(self) -> bool:
        """Our files are wrong about this pool, or were a minute ago."""
        return self._misconfigured

    def reason(self, now_us: int) -> str:
        """Why it is not closed; empty where it is."""
        if now_us < self._paused_until_us and not self._misconfigured:
            return OVERLOADED
        return "" if self._opened_until_us is None else self._reason

    def retry_s(self, now_us: int) -> float:
        """Seconds until a request may try, 0 where it may now."""
        until_us = max(self._paused_until_us, self._opened_until_us or 0)
        if now_us >= until_us and self._opened_until_us is not None and self._alone(now_us):
            return min(PROBE_LOOK_S, (self._probe_until_us - now_us) / US_PER_S)
        return max(0, until_us - now_us) / US_PER_S

    def _alone(self, now_us: int) -> bool:
        """Whether a probe is out that nobody else may join yet."""
        return self._probe is not None and now_us < self._probe_until_us

    def entered(self, member: str, now_us: int) -> None:
        """A request is on its way. In the half-open state it is the probe; one that is out still goes on beside it."""
        if self.state(now_us) is BreakerState.HALF_OPEN:
            self._probe = member
            self._probe_until_us = now_us + self._half_open_after_us

    def left(self, member: str) -> None:
        """It has ended; if it was the probe and brought neither success nor failure, another one may try."""
        if member == self._probe:
            self._probe = None

    def speaks(self, now_us: int) -> None:
        """An answer began. Closes a breaker that is half open; an older request's answer closes no open one."""
        if self._opened_until_us is not None and now_us >= self._opened_until_us:
            self._close()

    def success(self, now_us: int) -> None:
        """A request ended well."""
        self.speaks(now_us)
        self._answered.add(now_us)

    def failure(self, now_us: int, reason: str, limits: BreakerLimits, *, surely: bool = True) -> None:
        """The pool timed out or was unavailable. `surely`: nothing that a request asks for makes a pool fail so."""
        if self._opened_until_us is not None:
            if now_us >= self._opened_until_us:
                self._open(now_us, reason, limits.half_open_after_s)
            return
        self._failed_us.append((now_us, surely))
        from_us = now_us - round(limits.window_s * US_PER_S)
        while self._failed_us[0][0] <= from_us:
            self._failed_us.popleft()
        failures = len(self._failed_us)
        if failures < limits.failures:
            return
        proven = sum(surely for _, surely in self._failed_us) >= limits.failures
        if proven or failures >= ENDED_BADLY_SHARE * (failures + self._answered.since(from_us)):
            self._open(now_us, reason, limits.half_open_after_s)

    def overloaded(self, now_us: int, retry_after_s: float | None) -> None:
        """A pause as long as the pool asks for, or a second. It counts as no failure."""
        pause_s = OVERLOAD_PAUSE_S if retry_after_s is None else retry_after_s
        self._paused_until_us = max(self._paused_until_us, now_us + round(pause_s * US_PER_S))

    def out_of_service(self, now_us: int, reason: str, probe_after_s: float = MISCONFIGURED_PROBE_S) -> None:
        """Our files are wrong about this pool: open until it was probed with success, or `reloaded`."""
        self._open(now_us, reason, probe_after_s)
        self._misconfigured = True

    def reloaded(self) -> None:
        """The files were read again, or what was wrong is known to be right now."""
        if self._misconfigured:
            self._close()

    def _close(self) -> None:
        self._opened_until_us, self._probe, self._misconfigured = None, None, False
        self._failed_us.clear()
        self._answered.clear()

    def _open(self, now_us: int, reason: str, half_open_after_s: float) -> None:
        self._half_open_after_us = round(half_open_after_s * US_PER_S)
        self._opened_until_us = now_us + self._half_open_after_us
        self._reason = reason
        self._misconfigured = False
        self._failed_us.clear()
        self._answered.clear()


class ShapeBreaker:
    """Which shapes of one pool ran out of memory. A shape is a bucket of `pools.live.state.shape_bucket`.

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
