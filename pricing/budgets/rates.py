"""Rate limits: how much a tenant or key may ask for within a minute, and how many of its requests may run at once.

A minute slides in slots of five seconds: what is asked at an instant is held against the slot of that instant and the
twelve before it, which cover the last 60 seconds and up to five more. So within any 60 seconds never more than the
limit is let through, and what was used is free again after 60 to 65 seconds.

A request counts once, when its first hold opens, with the tokens that it is expected to take. What `usage` says of them
at its end is corrected in the slot of that first hold: a minute may thus hold more tokens than its limit, by as much as
requests took beyond what was expected of them, and lets nothing through until that has left it.

Instants are wall time in microseconds. Where the clock steps back, what was counted counts as of now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pricing.budgets.caps import Dimension, RateLimits, Scope
from pricing.budgets.store import RateStanding, RateStatus
from pricing.clock import US_PER_S
from pricing.errors import RateLimited

MINUTE_S: Final = 60
SLOT_S: Final = 5
SLOT_US: Final = SLOT_S * US_PER_S
SLOTS: Final = MINUTE_S // SLOT_S + 1  # the slot that is under way, and those that the 60 seconds before it touch


class ScopeRates:
    """What one scope asked for in the last minute, by slot, and its limits."""

    __slots__ = ("_slots", "limits", "requests", "scope", "tokens")

    def __init__(self, scope: Scope, limits: RateLimits) -> None:
        self.scope = scope
        self.limits = limits
        self.requests = 0
        self.tokens = 0
        self._slots: dict[int, list[int]] = {}  # slot -> requests and tokens; the oldest first

    # -- steps -----------------------------------------------------------------------------------------------------

    def refusal(self, tokens: int, in_flight: int, now_us: int) -> RateLimited | None:
        """Why one more request of so many tokens must wait; None where it may run. Counts nothing."""
        limits = self.limits
        self._roll(now_us)
        for dimension, limit, used, needed in (
            (Dimension.REQUESTS, limits.requests_per_minute, self.requests, 1),
            (Dimension.TOKENS, limits.tokens_per_minute, self.tokens, tokens),
            (Dimension.IN_FLIGHT, limits.in_flight, in_flight, 1),
        ):
            if limit is not None and used + needed > limit:
                wait_s = None if dimension is Dimension.IN_FLIGHT else self._fits_in_s(dimension, needed, limit, now_us)
                return rate_refusal(self.scope, dimension, limit, used, needed, wait_s)
        return None

    def count(self, tokens: int, now_us: int) -> int:
        """A request begins. Returns its slot, by which `uncount` takes it back."""
        slot = self._roll(now_us)
        self._add(slot, 1, tokens)
        return slot

    def uncount(self, slot: int, tokens: int) -> None:
        """Take a request back that could not begin; nothing where its slot has left the minute."""
        if slot in self._slots:
            self._add(slot, -1, -tokens)

    def correct(self, anchor_us: int, more_tokens: int) -> None:
        """A request whose first hold opened at `anchor_us` took so many more tokens than counted, or fewer.

        Nothing where its slot has left the minute; a slot gives back no more than it has.
        """
        slot = anchor_us // SLOT_US
        if slot in self._slots:
            self._add(slot, 0, max(more_tokens, -self._slots[slot][1]))

    # -- views -----------------------------------------------------------------------------------------------------

    def standing(self, dimension: Dimension, now_us: int) -> RateStanding | None:
        """A limit per minute as it stands; None where there is none."""
        tokens = dimension is Dimension.TOKENS
        limit = self.limits.tokens_per_minute if tokens else self.limits.requests_per_minute
        if limit is None:
            return None
        self._roll(now_us)
        used = self.tokens if tokens else self.requests
        return RateStanding(limit, max(0, limit - used), _leaves_s(next(reversed(self._slots)), now_us) if used else 0)

    def statuses(self, in_flight: int, now_us: int) -> Iterable[RateStatus]:
        """Each of the scope's limits and its use."""
        self._roll(now_us)
        for dimension, used in ((Dimension.REQUESTS, self.requests), (Dimension.TOKENS, self.tokens)):
            standing = self.standing(dimension, now_us)
            if standing is not None:
                yield RateStatus(self.scope, dimension, standing.limit, used, standing.resets_s)
        if self.limits.in_flight is not None:
            yield RateStatus(self.scope, Dimension.IN_FLIGHT, self.limits.in_flight, in_flight, None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _add(self, slot: int, requests: int, tokens: int) -> None:
        counted = self._slots.setdefault(slot, [0, 0])
        counted[0] += requests
        counted[1] += tokens
        self.requests += requests
        self.tokens += tokens

    def _roll(self, now_us: int) -> int:
        """Forget what has left the minute; returns the slot that is under way."""
        slot = now_us // SLOT_US
        slots = self._slots
        if slots and (newest := next(reversed(slots))) > slot:  # the clock has stepped back
            slots = self._slots = {each - newest + slot: counted for each, counted in slots.items()}
        while slots and (oldest := next(iter(slots))) <= slot - SLOTS:
            requests, tokens = slots.pop(oldest)
            self.requests -= requests
            self.tokens -= tokens
        return slot

    def _fits_in_s(self, dimension: Dimension, needed: int, limit: int, now_us: int) -> float | None:
        """Until enough slots have left the minute; None where it would not fit an empty one."""
        used = self.tokens if dimension is Dimension.TOKENS else self.requests
        for slot, (requests, tokens) in self._slots.items():
            used -= tokens if dimension is Dimension.TOKENS else requests
            if used + needed <= limit:
                return _leaves_s(slot, now_us)
        return None


def _leaves_s(slot: int, now_us: int) -> float:
    return ((slot + SLOTS) * SLOT_US - now_us) / US_PER_S


_KEYS: Final = {
    Dimension.REQUESTS: "requests_per_minute",
    Dimension.TOKENS: "tokens_per_minute",
    Dimension.IN_FLIGHT: "in_flight",
}


def rate_refusal(
    scope: Scope, dimension: Dimension, limit: int, used: int, needed: int, wait_s: float | None
) -> RateLimited:
    """What a request is told that a limit leaves no room for. `wait_s` is when it fits, None where nobody can tell."""
    whose = f"rate limit of {scope.kind} `{scope.value}`"
    key, remaining = _KEYS[dimension], max(0, limit - used)
    if dimension is Dimension.IN_FLIGHT:
        text = f"{used:,} of {limit:,} requests are in flight; wait until one ends"
    elif wait_s is None:
        text = f"needs {needed:,} {dimension}, the whole limit is {limit:,} per minute; ask for less"
    else:
        left = f"{remaining:,} of {limit:,} {dimension} per minute are left"
        text = f"needs {needed:,}, {left}; try again in {-(-wait_s // 1):.0f} s"
    return RateLimited(str(scope), dimension, limit, wait_s, f"{whose}: {text}, or raise {key}", remaining)
