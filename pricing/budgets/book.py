"""The budget book: holds, spend and caps as a state machine that never waits and touches no disk.

    open ──extend*──┬─ settle    spends at most the hold (or more, under `finish`)
                    ├─ release   spends nothing
                    └─ expire    spends the hold's amount, once its lease has run out

A step either happens in every scope or changes nothing. `wall_us` places money in windows, `mono_us` runs leases down;
both are passed in. A store that could not write a step takes it back with the `undo_` method beside it, last first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pricing.budgets.account import Account, CapView, CapWarning
from pricing.budgets.caps import LONGEST_ROLLING_S, CapTable, RateLimits, Scope
from pricing.budgets.rates import ScopeRates
from pricing.budgets.refusal import refuse
from pricing.budgets.standing import UNLIMITED, standing_of
from pricing.budgets.store import (
    CapCounts,
    CapStatus,
    Extended,
    Hold,
    OpenHold,
    RateStatus,
    Room,
    Standing,
    counted,
    not_open,
)
from pricing.budgets.windows import bucket_of
from pricing.clock import US_PER_S
from pricing.errors import BudgetExceeded, HoldEnded, Shortfall
from pricing.ledger.rows import LedgerRow

SETTLED: Final = "settled"
RELEASED: Final = "released"
EXPIRED: Final = "expired"
REMEMBERED_ENDS: Final = 16_384  # ids of ended holds kept at hand, so that a second or late end is known as such
KEPT_US: Final = (LONGEST_ROLLING_S + 2 * 86_400) * US_PER_S  # spend older than this is in no window


@dataclass(slots=True, eq=False)
class Held:
    """One open hold. `bucket` is that of its request's first hold; `deadline_us` is monotonic time. A request's first
    hold counts `tokens` in `rate_slot`, None for any other.
    """

    hold_id: str
    request_id: str
    amount_nusd: int
    anchor_us: int
    bucket: int
    lease_us: int
    deadline_us: int
    on_expiry: LedgerRow | None
    accounts: tuple[Account, ...]
    tokens: int = 0
    rate_slot: int | None = None

    def as_hold(self, mono_us: int, standing: Standing = UNLIMITED) -> Hold:
        return Hold(self.hold_id, self.amount_nusd, self.anchor_us, self.good_for_s(mono_us), standing)

    def good_for_s(self, mono_us: int) -> float:
        return max(0, self.deadline_us - mono_us) / US_PER_S


class BudgetBook:
    """All budgets of one store. Raises BudgetExceeded, RateLimited, HoldEnded; ValueError for a caller's mistake."""

    def __init__(self, caps: CapTable, wall_us: int, on_warn: Callable[[CapWarning], None]) -> None:
        self._accounts: dict[Scope, Account] = {}
        self._holds: dict[str, Held] = {}
        self._ended: dict[str, str] = {}  # id -> how
        self._expired: dict[str, str] = {}
        self._caps = CapTable((), caps.timezone)
        self._limited: list[Account] = []
        self._quiet: dict[tuple[str, str], int] = {}  # until when caps have warned, in force or not
        self._on_warn = on_warn
        self.replace_caps(caps, wall_us)

    # -- caps ------------------------------------------------------------------------------------------------------

    def replace_caps(self, caps: CapTable, wall_us: int) -> None:
        """Put a table in force. Money stays where it is; a cap that has warned keeps silent, put back too.

        Scopes whose caps are as they were are left alone, which takes next to no time for those of `CapTable.keeping`.
        """
        before, self._caps, self._zone = self._caps, caps, caps.timezone
        for scope in before.by_scope.keys() - caps.by_scope.keys():
            self.account(scope).views = []
        for scope, theirs in caps.by_scope.items():
            account = self.account(scope)
            if before.timezone != caps.timezone or [view.cap for view in account.views] != list(theirs):
                account.views = [CapView(cap, account, caps.timezone, wall_us) for cap in theirs]
                self._silence(account.views)
        self._limit(caps.limits)

    def _limit(self, limits: Mapping[Scope, RateLimits]) -> None:
        """Put rate limits in force. What a scope asked for counts from when it was first limited."""
        before = {account.scope: account.rates for account in self._limited}
        for account in self._limited:
            account.rates = None
        self._limited = [self.account(scope) for scope in limits]
        for account in self._limited:
            account.rates = before.get(account.scope) or ScopeRates(account.scope, limits[account.scope])
            account.rates.limits = limits[account.scope]

    def keep_quiet(self, quiet: Mapping[tuple[str, str], int]) -> None:
        """Until when caps have warned: `Cap.warns_as` -> microseconds since the epoch."""
        self._quiet.update(quiet)
        self._silence(self._views())

    def _silence(self, views: Iterable[CapView]) -> None:
        if self._quiet:
            for view in views:
                view.quiet_until_us = self._quiet.get(view.cap.warns_as, 0)

    # -- holds -----------------------------------------------------------------------------------------------------

    def find(self, hold_id: str) -> Held | None:
        """An open hold."""
        return self._holds.get(hold_id)

    def open_holds(self) -> tuple[Held, ...]:
        return tuple(self._holds.values())

    def has_expired(self, hold_id: str) -> bool:
        return hold_id in self._expired

    def open(self, wish: OpenHold, wall_us: int, mono_us: int) -> Held:
        """Set money aside in every scope, or in none, and count a request's first hold against the rate limits.

        Raises BudgetExceeded, RateLimited; HoldEnded for an id that has ended.
        """
        if wish.amount_nusd < 0 or wish.lease_s <= 0:
            raise ValueError(f"hold {wish.hold_id}: needs an amount of 0 or more and a lease above 0 seconds")
        if wish.hold_id in self._holds or wish.hold_id in self._ended:
            raise HoldEnded(f"hold {wish.hold_id} was opened before; every attempt needs an id of its own")
        anchor_us = wall_us if wish.anchor_us is None else wish.anchor_us
        held = Held(
            hold_id=wish.hold_id,
            request_id=wish.request_id,
            amount_nusd=0,
            anchor_us=anchor_us,
            bucket=bucket_of(anchor_us),
            lease_us=round(wish.lease_s * US_PER_S),
            deadline_us=mono_us + round(wish.lease_s * US_PER_S),
            on_expiry=wish.on_expiry,
            accounts=tuple(self.account(scope) for scope in dict.fromkeys(wish.scopes)),
        )
        if not wish.granted:
            self._check(held, wish, wall_us)
        held.amount_nusd = wish.amount_nusd
        self._add(held)
        if wish.anchor_us is None:
            held.tokens = wish.tokens
            for account in held.accounts if self._limited else ():
                if account.rates is not None:
                    held.rate_slot = account.rates.count(wish.tokens, wall_us)
        return held

    def undo_open(self, held: Held) -> None:
        self._remove(held)
        if held.rate_slot is not None:
            for account in held.accounts:
                if account.rates is not None:
                    account.rates.uncount(held.rate_slot, held.tokens)

    def extend(self, hold_id: str, amount_nusd: int, wall_us: int, mono_us: int) -> Extended:
        """Grow a hold to `amount_nusd` if every cap has room, and renew its lease either way. It never shrinks."""
        held = self._holds.get(hold_id)
        if held is None:
            return not_open(hold_id, self._how(hold_id))
        held.deadline_us = mono_us + held.lease_us
        more_nusd = max(0, amount_nusd - held.amount_nusd)
        granted = not more_nusd or _first_shortfall(held.accounts, more_nusd, held.bucket, wall_us) is None
        if granted:
            self._grow(held, more_nusd)
        return Extended(hold_id, held.amount_nusd, granted, held.good_for_s(mono_us))

    def undo_extend(self, hold_id: str, amount_nusd: int) -> None:
        held = self._holds[hold_id]
        self._grow(held, amount_nusd - held.amount_nusd)

    def settle(
        self,
        hold_id: str,
        amount_nusd: int,
        wall_us: int,
        *,
        may_exceed_hold: bool = False,
        more_tokens: int = 0,
        how: str = SETTLED,
    ) -> Held:
        """End a hold with an amount spent, and correct the tokens that its request counted. `how` is what is said to
        whoever comes later.

        Raises HoldEnded, and ValueError for more than the hold without leave.
        """
        held = self._holds.get(hold_id)
        if held is None:
            ending = self._how(hold_id)
            before = f"was {ending} before" if ending else "has ended or was never opened"
            raise HoldEnded(f"hold {hold_id} {before}; settle each hold once")
        if amount_nusd < 0 or (amount_nusd > held.amount_nusd and not may_exceed_hold):
            raise ValueError(
                f"hold {hold_id}: {amount_nusd} nano-dollars do not fit its {held.amount_nusd}; extend first"
            )
        self._end(held, amount_nusd, wall_us, how)
        self._correct(held, more_tokens)
        return held

    def expire(self, wall_us: int, mono_us: int) -> list[Held]:
        """End the holds whose lease has run out, each spent in full."""
        due = [held for held in self._holds.values() if held.deadline_us <= mono_us]
        for held in due:
            self._end(held, held.amount_nusd, wall_us, EXPIRED)
            _remember(self._expired, held.hold_id, EXPIRED)
        return due

    def undo_end(self, held: Held, amount_nusd: int, more_tokens: int = 0) -> None:
        """Take back a settlement, release (amount 0) or expiry."""
        self._ended.pop(held.hold_id, None)
        self._expired.pop(held.hold_id, None)
        self._add(held, -amount_nusd)
        self._correct(held, -more_tokens)

    # -- spend without a hold --------------------------------------------------------------------------------------

    def spend(self, scope: Scope, bucket: int, amount_nusd: int, wall_us: int) -> None:
        """Add what was spent outside any hold: boot and idle on pools."""
        account = self.account(scope)
        account.change(bucket, amount_nusd, 0)
        self._warn(account, wall_us)

    def restore_spend(self, scope: Scope, bucket: int, amount_nusd: int) -> None:
        """Put back what a file remembers, or take a `spend` back (negative); no warning is due."""
        self.account(scope).change(bucket, amount_nusd, 0)

    def restore_hold(self, held: Held) -> None:
        """Put back a hold that a file remembers; it was granted before, so no cap is asked."""
        self._add(held)

    # -- views -----------------------------------------------------------------------------------------------------

    def room(self, scopes: Sequence[Scope], wall_us: int) -> Room:
        """What the tightest cap over these scopes leaves now."""
        left: int | None = None
        tightest: str | None = None
        lowered_by: str | None = None
        for scope in scopes:
            account = self._accounts.get(scope)
            for view in account.views if account else ():
                here = view.left_nusd(wall_us)
                if lowered_by is None and view.lowering(wall_us):
                    lowered_by = view.cap.label
                if here is not None and (left is None or here < left):
                    left, tightest = here, view.cap.label
        return Room(left, tightest, lowered_by is not None, lowered_by)

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int, wall_us: int) -> BudgetExceeded | None:
        """What opening a hold of that amount now would raise; None where every cap has room."""
        accounts = [account for scope in scopes if (account := self._accounts.get(scope))]
        shortfall = _first_shortfall(accounts, amount_nusd, bucket_of(wall_us), wall_us)
        return None if shortfall is None else refuse(shortfall, wall_us, self._zone)

    def standing(self, held: Held, wall_us: int) -> Standing:
        """What is left to the scopes of a hold now."""
        return standing_of(held.accounts, wall_us)

    def statuses(self, wall_us: int, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        """All caps, or those of some scopes."""
        views = self._views() if scopes is None else (view for each in self._known(scopes) for view in each.views)
        return [view.status(wall_us) for view in views]

    def rate_statuses(self, wall_us: int, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        """All rate limits, or those of some scopes."""
        return [
            status
            for account in (self._limited if scopes is None else self._known(scopes))
            if account.rates is not None
            for status in account.rates.statuses(account.open_holds, wall_us)
        ]

    def cap_counts(self, wall_us: int, at_once: int) -> Iterator[CapCounts]:
        """Of so many caps at a time, so that others can have their turn in between."""
        views = self._views()
        while some := tuple(islice(views, at_once)):
            yield counted((view.stands(wall_us) for view in some), wall_us)

    def _views(self) -> Iterator[CapView]:
        """Of all caps, in the table's order; those of a reload meanwhile are left out."""
        for cap in self._caps.caps:
            yield from (view for view in self.account(cap.scope).views if view.cap.name == cap.name)

    def _known(self, scopes: Sequence[Scope]) -> Iterator[Account]:
        return (account for scope in dict.fromkeys(scopes) if (account := self._accounts.get(scope)) is not None)

    def account(self, scope: Scope) -> Account:
        """The scope's account, made when first asked for."""
        account = self._accounts.get(scope)
        if account is None:
            account = self._accounts[scope] = Account(scope)
        return account

    def prune(self, wall_us: int) -> None:
        """Forget spend that no window can hold any more, and windows that are over; call it now and then."""
        self._quiet = {warned: until_us for warned, until_us in self._quiet.items() if until_us > wall_us}
        oldest = bucket_of(wall_us - KEPT_US)
        for account in self._accounts.values():
            account.forget_before(oldest)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check(self, held: Held, wish: OpenHold, wall_us: int) -> None:
        shortfall = _first_shortfall(held.accounts, wish.amount_nusd, held.bucket, wall_us)
        if shortfall is not None:
            raise refuse(shortfall, wall_us, self._zone)
        if wish.anchor_us is not None or not self._limited:
            return
        for account in held.accounts:
            if account.rates is not None:
                limited = account.rates.refusal(wish.tokens, account.open_holds, wall_us)
                if limited is not None:
                    raise limited

    def _add(self, held: Held, spent_nusd: int = 0) -> None:
        """It is open from now on; what its end has spent is given as a negative amount."""
        self._holds[held.hold_id] = held
        for account in held.accounts:
            account.open_holds += 1
            account.change(held.bucket, spent_nusd, held.amount_nusd)

    def _remove(self, held: Held, spent_nusd: int = 0) -> None:
        """It is open no more, and has spent that."""
        del self._holds[held.hold_id]
        for account in held.accounts:
            account.open_holds -= 1
            account.change(held.bucket, spent_nusd, -held.amount_nusd)

    def _grow(self, held: Held, more_nusd: int) -> None:
        held.amount_nusd += more_nusd
        for account in held.accounts:
            account.change(held.bucket, 0, more_nusd)

    def _correct(self, held: Held, more_tokens: int) -> None:
        if more_tokens:
            for account in held.accounts:
                if account.rates is not None:
                    account.rates.correct(held.anchor_us, more_tokens)

    def _how(self, hold_id: str) -> str | None:
        """How a hold ended, as long as that is remembered."""
        return self._ended.get(hold_id) or self._expired.get(hold_id)

    def _end(self, held: Held, amount_nusd: int, wall_us: int, how: str) -> None:
        self._remove(held, amount_nusd)
        _remember(self._ended, held.hold_id, how)
        if amount_nusd:
            for account in held.accounts:
                self._warn(account, wall_us)

    def _warn(self, account: Account, wall_us: int) -> None:
        for view in account.views:
            warning = view.warning(wall_us)
            if warning is not None:
                self._quiet[warning.warns_as] = warning.quiet_until_us
                self._on_warn(warning)


def _first_shortfall(accounts: Sequence[Account], more_nusd: int, bucket: int, wall_us: int) -> Shortfall | None:
    for account in accounts:
        for view in account.views:
            shortfall = view.shortfall(more_nusd, bucket, wall_us)
            if shortfall is not None:
                return shortfall
    return None


def _remember(ends: dict[str, str], hold_id: str, how: str) -> None:
    ends[hold_id] = how
    if len(ends) > REMEMBERED_ENDS:
        del ends[next(iter(ends))]
