"""One scope's money by 15-minute bucket, and the caps that look at it; its open holds, and its rate limits.

A cap owns no money: its `CapView` keeps the sums of its window at hand and sums the buckets anew when the window moves,
so a cap that is edited or added sees all that was spent before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from pricing.budgets.caps import Cap, Scope, Unlimited
from pricing.budgets.rates import ScopeRates
from pricing.budgets.store import CapStatus
from pricing.budgets.windows import BUCKET_US, Span, leaves_us, span_at
from pricing.clock import US_PER_S
from pricing.errors import Shortfall


@dataclass(frozen=True, slots=True)
class CapWarning:
    """A cap passed its warning threshold; sent once per window. Amounts in nano-dollars, that of the cap as raised."""

    cap: str
    scope: Scope
    window: str
    amount_nusd: int
    spent_nusd: int
    at_us: int
    quiet_until_us: int  # no second warning before
    warns_as: tuple[str, str]  # by which the cap's silence is remembered


class Account:
    """What one scope has spent and holds, nano-dollars by bucket; and what it asks for, where that is limited."""

    __slots__ = ("held", "name", "open_holds", "rates", "scope", "spent", "views")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.name = str(scope)
        self.spent: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.views: list[CapView] = []
        self.open_holds = 0
        self.rates: ScopeRates | None = None

    def change(self, bucket: int, spent_nusd: int, held_nusd: int) -> None:
        """Add to a bucket; amounts may be negative."""
        if spent_nusd:
            self.spent[bucket] = self.spent.get(bucket, 0) + spent_nusd
        if held_nusd:
            left = self.held.get(bucket, 0) + held_nusd
            if left:
                self.held[bucket] = left
            else:
                del self.held[bucket]
        for view in self.views:
            view.change(bucket, spent_nusd, held_nusd)

    def forget_before(self, bucket: int) -> None:
        """Drop spend so old that no window can hold it."""
        for old in [known for known in self.spent if known < bucket]:
            del self.spent[old]


class CapView:
    """One cap and its window's sums over an account."""

    __slots__ = ("_account", "_zone", "cap", "held_nusd", "quiet_until_us", "span", "spent_nusd")

    def __init__(self, cap: Cap, account: Account, zone: ZoneInfo, wall_us: int) -> None:
        self.cap = cap
        self._account = account
        self._zone = zone
        self.quiet_until_us = 0
        self.span = span_at(cap.window, wall_us, zone)
        self.spent_nusd, self.held_nusd = self._sums(self.span)

    def change(self, bucket: int, spent_nusd: int, held_nusd: int) -> None:
        if self.span.holds(bucket):
            self.spent_nusd += spent_nusd
            self.held_nusd += held_nusd

    def shortfall(self, needed_nusd: int, bucket: int, wall_us: int) -> Shortfall | None:
        """Why `needed_nusd` more does not fit the window that `bucket` belongs to; None when it fits."""
        amount = self.cap.amount_at(wall_us)
        if isinstance(amount, Unlimited):
            return None
        span, spent, held = self._window_of(bucket, wall_us)
        if spent + held + needed_nusd <= amount or not span.holds(bucket):
            return None
        used = spent + held + needed_nusd
        return self.cap.shortfall(amount, spent, held, needed_nusd, self._frees_at_us(span, used, amount))

    def left_nusd(self, wall_us: int) -> int | None:
        """Room for more at this instant, 0 or above; None when the cap is unlimited."""
        amount = self.cap.amount_at(wall_us)
        if isinstance(amount, Unlimited):
            return None
        self.roll(wall_us)
        return max(0, amount - self.spent_nusd - self.held_nusd)

    def lowering(self, wall_us: int) -> bool:
        """Whether spent + held has passed the threshold that lowers the tier."""
        self.roll(wall_us)
        return self.cap.reached(self.cap.lower_tier_permille, self.spent_nusd + self.held_nusd, wall_us)

    def warning(self, wall_us: int) -> CapWarning | None:
        """The warning that is due now, at most once per window: for a rolling one, once in its length."""
        if wall_us < self.quiet_until_us or not self._warned(wall_us):
            return None
        amount = self.cap.amount_at(wall_us)
        rolling_s = self.cap.window.rolling_s
        self.quiet_until_us = self.span.until_us if rolling_s is None else wall_us + rolling_s * US_PER_S
        return CapWarning(
            cap=self.cap.label,
            scope=self.cap.scope,
            window=self.cap.window.text,
            amount_nusd=0 if isinstance(amount, Unlimited) else amount,
            spent_nusd=self.spent_nusd,
            at_us=wall_us,
            quiet_until_us=self.quiet_until_us,
            warns_as=self.cap.warns_as,
        )

    def status(self, wall_us: int) -> CapStatus:
        amount = self.cap.amount_at(wall_us)
        left = self.left_nusd(wall_us)
        self.roll(wall_us)
        return CapStatus(
            cap=self.cap.label,
            scope=self.cap.scope,
            window=self.cap.window.text,
            amount_nusd=None if isinstance(amount, Unlimited) else amount,
            spent_nusd=self.spent_nusd,
            held_nusd=self.held_nusd,
            left_nusd=left,
            warned=self._warned(wall_us),
            lowering=self.lowering(wall_us),
            resets_us=self.span.until_us if self.cap.window.rolling_s is None else None,
        )

    def stands(self, wall_us: int) -> tuple[Cap, int, int]:
        """The cap with what its window has spent and holds."""
        if self.spent_nusd or self.held_nusd:
            self.roll(wall_us)
        return self.cap, self.spent_nusd, self.held_nusd

    def roll(self, wall_us: int) -> None:
        """Move the window to this instant."""
        if not self.span.from_us <= wall_us < self.span.until_us:
            self.span = span_at(self.cap.window, wall_us, self._zone)
            self.spent_nusd, self.held_nusd = self._sums(self.span)

    def _window_of(self, bucket: int, wall_us: int) -> tuple[Span, int, int]:
        """The window of now, or for a calendar month the one that the bucket lies in, with its sums."""
        self.roll(wall_us)
        if self.cap.window.rolling_s is not None or self.span.holds(bucket):
            return self.span, self.spent_nusd, self.held_nusd
        span = span_at(self.cap.window, bucket * BUCKET_US, self._zone)
        return span, *self._sums(span)

    def _sums(self, span: Span) -> tuple[int, int]:
        return _within(self._account.spent, span), _within(self._account.held, span)

    def _warned(self, wall_us: int) -> bool:
        self.roll(wall_us)
        return self.cap.reached(self.cap.warn_permille, self.spent_nusd, wall_us)

    def _frees_at_us(self, span: Span, total_nusd: int, amount_nusd: int) -> int | None:
        """When enough buckets have left the window for `total_nusd` to fit; None if that never comes."""
        for bucket in sorted({*self._account.spent, *self._account.held}):
            if not span.holds(bucket):
                continue
            total_nusd -= self._account.spent.get(bucket, 0) + self._account.held.get(bucket, 0)
            if total_nusd > amount_nusd:
                continue
            at_us = leaves_us(self.cap.window, bucket, self._zone)
            then = self.cap.amount_at(at_us)
            if isinstance(then, Unlimited) or total_nusd <= then:
                return at_us
        return None


def _within(by_bucket: Mapping[int, int], span: Span) -> int:
    return sum(nusd for bucket, nusd in by_bucket.items() if span.first <= bucket < span.end)
