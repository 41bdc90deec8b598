"""What scripts reply, as the values and errors of a budget store. The replies are described in the scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

from pricing.budgets.account import CapWarning
from pricing.budgets.caps import LARGEST_NUSD, Dimension, Scope, ScopeKind
from pricing.budgets.rates import rate_refusal
from pricing.budgets.refusal import refuse
from pricing.budgets.store import Hold, OpenHold, RateStanding, Settlement, Standing
from pricing.clock import US_PER_S
from pricing.errors import HoldEnded, PricingError, StoreUnavailable
from pricing.redis.installation import not_whole
from pricing.redis.packing import PackedCaps
from pricing.redis.steps import Reply

_SETTLED: Final = frozenset((b"settled", b"again", b"late"))


class Answers:
    """Reads replies into views, warnings, holds and errors."""

    def __init__(self, zone: ZoneInfo, on_warn: Callable[[CapWarning], None]) -> None:
        self.zone = zone
        self._on_warn = on_warn

    def note_sums(self, reply: Reply, begin: int, packed: PackedCaps) -> None:
        """Take in spent and held of each cap, which start at `begin`."""
        for seen in packed.seen:
            seen.spent_nusd, seen.held_nusd = reply[begin], reply[begin + 1]
            begin += 2

    def warn(self, due: Reply, packed: PackedCaps, at_us: int) -> None:
        """Pass on the warnings of a reply: a cap's place, until when it is quiet now, and what it has spent."""
        for index in range(0, len(due), 3):
            place, quiet_until_us, spent_nusd = due[index : index + 3]
            self._on_warn(packed.seen[place - 1].warning(spent_nusd, at_us, quiet_until_us))

    def opened(self, reply: Reply, wish: OpenHold, packed: PackedCaps, taken_us: int) -> Hold:
        """The hold, whose answer took `taken_us`; raises what refused it."""
        if reply[0] != b"open":
            raise self._not_opened(reply, wish, packed)
        now_us, deadline_us, amount_nusd, anchor_us = reply[1:5]
        self.note_sums(reply, 11, packed)
        standing = _standing(reply, packed, now_us)
        return Hold(wish.hold_id, amount_nusd, anchor_us, good_for_s(deadline_us, now_us, taken_us), standing)

    def _not_opened(self, reply: Reply, wish: OpenHold, packed: PackedCaps) -> PricingError:
        match reply:
            case [b"refused", now_us, place, amount, spent, held, frees_at, *_]:
                self.note_sums(reply, 7, packed)
                frees_at_us = None if frees_at < 0 else frees_at
                shortfall = packed.seen[place - 1].cap.shortfall(amount, spent, held, wish.amount_nusd, frees_at_us)
                return refuse(shortfall, now_us, self.zone)
            case [b"limited", _, scope, dimension, limit, used, needed, wait_us]:
                wait_s = None if wait_us < 0 else wait_us / US_PER_S
                return rate_refusal(_scope(scope), Dimension(dimension.decode()), limit, used, needed, wait_s)
            case [b"lost", found]:
                return not_whole(found.decode())
            case [b"backlog", waiting]:
                return backlog_full(int(waiting))
            case [b"too_large", scope]:
                return too_large(wish.hold_id, wish.amount_nusd, scope)
            case [b"foreign", owner]:
                return HoldEnded(f"hold {wish.hold_id} is replica {owner.decode()}'s; ids of holds are used once")
            case [_, how]:
                return HoldEnded(f"hold {wish.hold_id} was {how.decode()}; every attempt needs an id of its own")
        raise AssertionError(f"no reply of open.lua: {reply}")


def check_settled(reply: Reply, settlement: Settlement) -> None:
    """Raises what kept a hold from being settled."""
    hold_id, amount_nusd = settlement.hold_id, settlement.amount_nusd
    if reply[0] in _SETTLED:
        return
    match reply:
        case [b"ended", how]:
            raise HoldEnded(f"hold {hold_id} was {how.decode()} before; settle each hold once")
        case [b"foreign", owner]:
            raise HoldEnded(f"hold {hold_id} belongs to replica {owner.decode()}, which alone may end it")
        case [b"unknown"]:
            raise HoldEnded(f"hold {hold_id} has ended or was never opened; settle each hold once")
        case [b"misfit", held]:
            raise ValueError(f"hold {hold_id}: {amount_nusd} nano-dollars do not fit its {held}; extend first")
        case [b"too_large", scope]:
            raise too_large(hold_id, amount_nusd, scope)
    raise AssertionError(f"no reply of settle.lua: {reply}")


def good_for_s(deadline_us: int, now_us: int, taken_us: int) -> float:
    """What is left of a lease once its answer is here, which took `taken_us` at most."""
    return max(0, deadline_us - now_us - taken_us) / US_PER_S


def too_large(name: str, amount_nusd: int, scope: bytes) -> StoreUnavailable:
    return StoreUnavailable(
        f"{name}: {amount_nusd} nano-dollars cannot be written, since {scope.decode(errors='replace')} would pass "
        f"{LARGEST_NUSD}, up to which the store counts exactly"
    )


def check_amount(name: str, amount_nusd: int) -> None:
    """Raises StoreUnavailable for an amount that scripts cannot count, as the embedded store does for one too large."""
    if amount_nusd > LARGEST_NUSD:
        raise uncountable(name, amount_nusd)


def uncountable(name: str, amount_nusd: int) -> StoreUnavailable:
    return StoreUnavailable(
        f"{name}: {amount_nusd} nano-dollars cannot be written; the store counts exactly up to {LARGEST_NUSD}"
    )


def backlog_full(waiting: int) -> StoreUnavailable:
    return StoreUnavailable(
        f"{waiting} bytes of ledger rows wait in Redis for PostgreSQL, which is the limit; no hold is opened until "
        "they are written: see that PostgreSQL can be reached"
    )


def _standing(reply: Reply, packed: PackedCaps, now_us: int) -> Standing:
    left: int | None = None
    for seen in packed.seen:
        here = seen.left_nusd(now_us)
        if here is not None and (left is None or here < left):
            left = here
    requests = RateStanding(reply[5], reply[6], reply[7] / US_PER_S) if reply[5] >= 0 else None
    tokens = RateStanding(reply[8], reply[9], reply[10] / US_PER_S) if reply[8] >= 0 else None
    return Standing(left, requests, tokens)


def _scope(name: bytes) -> Scope:
    kind, _, value = name.decode().partition(":")
    return Scope(ScopeKind(kind), value)
