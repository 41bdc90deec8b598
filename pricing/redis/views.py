"""How caps stand, as this replica last heard: what `room` and `refusal` answer without waiting.

Every reply of a script brings the sums of the caps it was about. Between replies other replicas spend, and old spend
leaves the windows, so a view may be behind in either direction: it is never a promise (the script decides), and nobody
is refused from one before it was refreshed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from zoneinfo import ZoneInfo

from pricing.budgets.account import CapWarning
from pricing.budgets.caps import Cap, CapTable, Scope, Unlimited
from pricing.budgets.refusal import refuse
from pricing.budgets.store import CapStatus, Room
from pricing.budgets.windows import bucket_of, leaves_us, month_around
from pricing.clock import US_PER_S
from pricing.errors import BudgetExceeded, Shortfall

OLD_US: Final = 2 * US_PER_S  # who asks all the time is looked at with every tick, as a rule each second


class CapSeen:
    """One cap with the sums of its window as last heard, nano-dollars.

    `asked_nusd` is an amount that had no room; `frees` is (spent + held + amount, when that fits or None), as the store
    said for it.
    """

    __slots__ = ("_fixed_nusd", "asked_nusd", "cap", "frees", "held_nusd", "spent_nusd", "warned_as")

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self.warned_as = " ".join(cap.warns_as)
        self.spent_nusd = 0
        self.held_nusd = 0
        self.asked_nusd: int | None = None
        self.frees: tuple[int, int | None] | None = None
        # Its amount at any time, asked with every step; None where that depends on the time, or is unlimited.
        self._fixed_nusd = None if cap.raises or isinstance(cap.amount_nusd, Unlimited) else cap.amount_nusd

    def left_nusd(self, now_us: int) -> int | None:
        """Room for more, 0 or above; None when the cap is unlimited."""
        amount = self.cap.amount_at(now_us) if self._fixed_nusd is None else self._fixed_nusd
        if isinstance(amount, Unlimited):
            return None
        left = amount - self.spent_nusd - self.held_nusd
        return left if left > 0 else 0

    def lowering(self, now_us: int) -> bool:
        """Whether spent + held has passed the threshold that lowers the tier."""
        return self.cap.reached(self.cap.lower_tier_permille, self.spent_nusd + self.held_nusd, now_us)

    def lacks(self, amount_nusd: int, now_us: int) -> int | None:
        """The cap's amount, where so much more has no room in it."""
        amount = self.cap.amount_at(now_us)
        if isinstance(amount, Unlimited) or self.spent_nusd + self.held_nusd + amount_nusd <= amount:
            return None
        return amount

    def shortfall(self, needed_nusd: int, now_us: int, zone: ZoneInfo) -> Shortfall | None:
        """Why so much more does not fit; None when it does."""
        amount = self.lacks(needed_nusd, now_us)
        if amount is None:
            return None
        self.asked_nusd = needed_nusd
        frees_at_us = self._frees_at_us(needed_nusd, amount, now_us, zone)
        return self.cap.shortfall(amount, self.spent_nusd, self.held_nusd, needed_nusd, frees_at_us)

    def unanswered_nusd(self, now_us: int) -> int | None:
        """An amount that has no room and of which the store has not said when it will have."""
        asked = self.asked_nusd
        if asked is None or self.lacks(asked, now_us) is None or self._known_to_free(asked):
            return None
        return asked

    def answered(self, asked_nusd: int, frees_at_us: int | None) -> None:
        self.frees = (self.spent_nusd + self.held_nusd + asked_nusd, frees_at_us)

    def warning(self, spent_nusd: int, at_us: int, quiet_until_us: int) -> CapWarning:
        amount = self.cap.amount_at(at_us)
        return CapWarning(
            cap=self.cap.label,
            scope=self.cap.scope,
            window=self.cap.window.text,
            amount_nusd=0 if isinstance(amount, Unlimited) else amount,
            spent_nusd=spent_nusd,
            at_us=at_us,
            quiet_until_us=quiet_until_us,
            warns_as=self.cap.warns_as,
        )

    def stands(self) -> tuple[Cap, int, int]:
        """The cap with what its window has spent and holds."""
        return self.cap, self.spent_nusd, self.held_nusd

    def status(self, now_us: int, zone: ZoneInfo) -> CapStatus:
        amount = self.cap.amount_at(now_us)
        return CapStatus(
            cap=self.cap.label,
            scope=self.cap.scope,
            window=self.cap.window.text,
            amount_nusd=None if isinstance(amount, Unlimited) else amount,
            spent_nusd=self.spent_nusd,
            held_nusd=self.held_nusd,
            left_nusd=self.left_nusd(now_us),
            warned=self.cap.reached(self.cap.warn_permille, self.spent_nusd, now_us),
            lowering=self.lowering(now_us),
            resets_us=month_around(now_us, zone)[1] if self.cap.window.rolling_s is None else None,
        )

    def _known_to_free(self, needed_nusd: int) -> bool:
        return self.frees is not None and self.frees[0] == self.spent_nusd + self.held_nusd + needed_nusd

    def _frees_at_us(self, needed_nusd: int, amount_nusd: int, now_us: int, zone: ZoneInfo) -> int | None:
        """As the store said; until it has, when all that counts now has left the window."""
        if self.frees is not None and self._known_to_free(needed_nusd):
            return self.frees[1]
        return leaves_us(self.cap.window, bucket_of(now_us), zone) if needed_nusd <= amount_nusd else None


class Views:
    """All caps of a table, by scope, and the scopes that were asked about since somebody last looked."""

    def __init__(self, caps: CapTable) -> None:
        self._by_scope: dict[Scope, tuple[CapSeen, ...]] = {}
        self._asked: set[Scope] = set()
        self._looked_us: dict[Scope, int] = {}  # of those with a cap that lowers the tier; the server's time
        self.replace(caps)

    def replace(self, caps: CapTable) -> None:
        """Put a table in force. What was heard of a scope's window stays known.

        Scopes whose caps are as they were are left alone, which takes next to no time for those of `CapTable.keeping`.
        """
        self._caps, self.zone = caps, caps.timezone
        self._looked_us = dict.fromkeys((cap.scope for cap in caps.caps if cap.lower_tier_permille), 0)
        before = self._by_scope
        self._by_scope = {scope: _seen(theirs, before.get(scope, ())) for scope, theirs in caps.by_scope.items()}

    def all(self) -> Iterable[CapSeen]:
        """Every cap, in the table's order."""
        return (seen for cap in self._caps.caps for seen in self._by_scope[cap.scope] if seen.cap.name == cap.name)

    def of(self, scope: Scope) -> tuple[CapSeen, ...]:
        return self._by_scope.get(scope, ())

    def scopes(self) -> tuple[Scope, ...]:
        """Every scope that has a cap."""
        return tuple(self._by_scope)

    def is_old(self, scopes: Iterable[Scope], now_us: int) -> bool:
        """Whether a cap of theirs that lowers the tier was last looked at long ago, or never."""
        looked_us = self._looked_us
        return bool(looked_us) and any(now_us - looked_us.get(scope, now_us) > OLD_US for scope in scopes)

    def looked(self, scopes: Iterable[Scope], now_us: int) -> None:
        """Note that all caps of these scopes were read at an instant."""
        self._looked_us.update((scope, now_us) for scope in scopes if scope in self._looked_us)

    def take_asked(self) -> set[Scope]:
        """The capped scopes that `room` or `refusal` was asked about since the last call."""
        asked, self._asked = self._asked, set()
        return asked & self._by_scope.keys()

    def room(self, scopes: Sequence[Scope], now_us: int) -> Room:
        """What the tightest cap over these scopes leaves."""
        left: int | None = None
        tightest: str | None = None
        lowered_by: str | None = None
        for seen in self._seen(scopes):
            here = seen.left_nusd(now_us)
            if lowered_by is None and seen.lowering(now_us):
                lowered_by = seen.cap.label
            if here is not None and (left is None or here < left):
                left, tightest = here, seen.cap.label
        return Room(left, tightest, lowered_by is not None, lowered_by)

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int, now_us: int) -> BudgetExceeded | None:
        """What opening such a hold now would raise, as far as is known."""
        for seen in self._seen(scopes):
            shortfall = seen.shortfall(amount_nusd, now_us, self.zone)
            if shortfall is not None:
                return refuse(shortfall, now_us, self.zone)
        return None

    def _seen(self, scopes: Sequence[Scope]) -> Iterable[CapSeen]:
        self._asked.update(scopes)
        return (seen for scope in scopes for seen in self.of(scope))


def _seen(caps: tuple[Cap, ...], before: tuple[CapSeen, ...]) -> tuple[CapSeen, ...]:
    """One scope's caps, with what was heard of their windows."""
    if [seen.cap for seen in before] == list(caps):
        return before
    heard = {seen.cap.window.rolling_s: seen for seen in before}
    found = tuple(CapSeen(cap) for cap in caps)
    for seen in found:
        if (known := heard.get(seen.cap.window.rolling_s)) is not None:
            seen.spent_nusd, seen.held_nusd = known.spent_nusd, known.held_nusd
    return found
