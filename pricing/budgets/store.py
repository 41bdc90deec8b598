"""The budget store: holds that are small, grow, and end exactly once.

Invariant, on every store and under any interleaving: no hold is granted or extended that would make
spent + held exceed a cap in force at that moment, in any scope of the request; under `cut` no settlement exceeds its
hold. A refusal reserves nothing in any scope. Every hold ends once: settled, released or expired.

Spend is kept in 15-minute buckets per scope and caps only read it, so editing a cap or adding one loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from pricing.budgets.caps import Cap, CapTable, Dimension, Scope, Unlimited
from pricing.errors import BudgetExceeded
from pricing.ledger.rows import LedgerRow, RequestRow


class MeterEntry(msgspec.Struct, frozen=True):
    """Whose clock a hold's attempt runs on: `weight` is its part of what is shared, `kv_tokens` what it is predicted to
    take of the pool's KV cache.
    """

    pool: str
    weight: int = 1
    kv_tokens: int = 0


class OpenHold(msgspec.Struct, frozen=True):
    """What a caller asks: set `amount_nusd` aside in all `scopes` at once.

    `hold_id` is made by the caller (request:attempt); opening the same id twice returns the same hold. `lease_s` is how
    long the hold lives without being extended. `anchor_us` is the wall time of the request's first hold: all of
    a request belongs to the windows of that instant; None for the first, which alone counts against rate limits, with
    `tokens` (prompt and expected output). With `meter`, a hold that is granted has entered that pool's meter, as a
    member named like the hold, and leaves it when it ends.

    `without_store`: where the store cannot be reached, a replica may grant the hold out of its allowance
    (`pricing.budgets.outage`). `granted`: that has happened; no cap and no limit is asked any more.
    """

    hold_id: str
    request_id: str
    scopes: tuple[Scope, ...]
    amount_nusd: int
    lease_s: float
    anchor_us: int | None = None
    on_expiry: LedgerRow | None = None  # row written, with the hold's amount, if nobody ends it
    tokens: int = 0
    meter: MeterEntry | None = None
    without_store: bool = False
    granted: bool = False


class RateStanding(msgspec.Struct, frozen=True):
    """A rate limit as it stands: `remaining` of `limit` in this minute, all of it back in `resets_s`."""

    limit: int
    remaining: int
    resets_s: float


class Standing(msgspec.Struct, frozen=True):
    """What is left to a request's scopes after a step: of the tightest cap, and of the tightest limit of each rate.

    None where nothing limits.
    """

    left_nusd: int | None = None
    requests: RateStanding | None = None
    tokens: RateStanding | None = None


class Hold(msgspec.Struct, frozen=True):
    """Money set aside. `without_store`: by the replica itself, out of its allowance."""

    hold_id: str
    amount_nusd: int
    anchor_us: int
    good_for_s: float
    standing: Standing = Standing()
    without_store: bool = False


class Extended(msgspec.Struct, frozen=True):
    """The answer to one extension: the hold's amount now, and whether the wish was granted in full.

    `store_down`: it was not, because the store could not be asked. `why`: there is no such hold to extend, since it has
    ended, never was, or is another replica's; empty for one that is open.
    """

    hold_id: str
    amount_nusd: int
    granted: bool
    good_for_s: float
    store_down: bool = False
    why: str = ""


def not_open(hold_id: str, how: str | None) -> Extended:
    """The answer for a hold that is not open; `how` it ended (settled, released, expired), None where nobody knows."""
    ending = "has ended or was never opened" if how is None else f"was {how} before"
    return Extended(hold_id, 0, granted=False, good_for_s=0.0, why=f"hold {hold_id} {ending}; extend open holds only")


class Settlement(msgspec.Struct, frozen=True):
    """The end of a hold and its rows, written in one transaction.

    `amount_nusd` is what the hold's scopes have spent. It may exceed the hold only under `finish`
    (`may_exceed_hold`); otherwise a larger amount is a ValueError of the caller. `rows` hold the same money,
    account by account; `request` is the summary once the request is over. `more_tokens` corrects what the request's
    first hold counted against token rates: what `usage` says, less what was counted; negative gives back.
    """

    hold_id: str
    amount_nusd: int
    rows: tuple[LedgerRow, ...]
    request: RequestRow | None = None
    may_exceed_hold: bool = False
    more_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CapStatus:
    """One cap as it stands. `left_nusd` None means unlimited. `warned` and `lowering` are its thresholds passed."""

    cap: str
    scope: Scope
    window: str
    amount_nusd: int | None
    spent_nusd: int
    held_nusd: int
    left_nusd: int | None
    warned: bool
    lowering: bool
    resets_us: int | None


@dataclass(frozen=True, slots=True)
class RateStatus:
    """One rate limit and its use: in this minute, or at once (`in_flight`).

    `resets_s` is when all of a minute's use has left it, 0 where there is none; None for `in_flight`.
    """

    scope: Scope
    dimension: Dimension
    limit: int
    used: int
    resets_s: float | None


class CapCounts(msgspec.Struct, frozen=True):
    """How many caps have passed each of their thresholds, and how many have nothing left."""

    warned: int = 0
    lowering: int = 0
    exhausted: int = 0

    def __add__(self, other: CapCounts) -> CapCounts:
        return CapCounts(self.warned + other.warned, self.lowering + other.lowering, self.exhausted + other.exhausted)


def counted(stands: Iterable[tuple[Cap, int, int]], wall_us: int) -> CapCounts:
    """Caps, each with what its window has spent and holds. One without use costs next to nothing."""
    warned = lowering = exhausted = 0
    for cap, spent_nusd, held_nusd in stands:
        used_nusd = spent_nusd + held_nusd
        if not used_nusd and cap.amount_nusd:
            continue
        amount = cap.amount_at(wall_us)
        warned += cap.reached(cap.warn_permille, spent_nusd, wall_us)
        lowering += cap.reached(cap.lower_tier_permille, used_nusd, wall_us)
        exhausted += not isinstance(amount, Unlimited) and used_nusd >= amount
    return CapCounts(warned, lowering, exhausted)


class Room(msgspec.Struct, frozen=True):
    """How much a request with given scopes may still hold: the tightest cap. None means unlimited.

    `lowered_by` is the first cap past the threshold that lowers the tier, where `lower_tier` says that one is.
    """

    left_nusd: int | None
    cap: str | None
    lower_tier: bool
    lowered_by: str | None = None


class BudgetStore(Protocol):
    """Raises BudgetExceeded, RateLimited, StoreUnavailable and HoldEnded as said at each step.

    A step that raises StoreUnavailable may have been taken all the same. So an opening leaves no hold behind then, and
    a settlement may be made again, by the same process, without harm.
    """

    def replace_caps(self, caps: CapTable) -> None:
        """Put another table of caps in force, from the next step on."""
        ...

    def now_us(self) -> int:
        """The wall time that windows go by and rows are to have, as far as is known here."""
        ...

    def room(self, scopes: Sequence[Scope]) -> Room:
        """From memory, without waiting; a view, not a promise."""
        ...

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        """What opening such a hold now would raise, from memory; None where there is room."""
        ...

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        """Whether `room` may be wrong about a cap that lowers the tier, since others may have spent meanwhile."""
        ...

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        """Bring what `room` and `refusal` say of these scopes up to date. Raises StoreUnavailable."""
        ...

    async def open(self, wish: OpenHold) -> Hold:
        """Set money aside; durable when it returns. Raises BudgetExceeded, RateLimited, StoreUnavailable.

        Caps are asked first, then the rate limits of a request's first hold.
        """
        ...

    async def extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        """Grow holds (id, new amount) in one batch and renew their leases.

        What is not an open hold of this process's replica is ungranted, with amount 0, and says `why`.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """End a hold. A hold that had expired: writes a LATE row of amount 0 with the metered figure instead."""
        ...

    async def settle_and_open(self, settlement: Settlement, wish: OpenHold) -> Hold:
        """One step; the settlement stands even when the new hold is refused (as by `open`)."""
        ...

    async def release(self, hold_id: str, request: RequestRow | None = None) -> None:
        """End a hold with nothing spent."""
        ...

    async def post(self, rows: Sequence[LedgerRow], pool_scopes: bool = True) -> None:
        """Write house rows; boot and idle count on caps whose scope is their pool, or an endpoint that names it."""
        ...

    async def record(self, request: RequestRow) -> None:
        """Write the summary of a request that never held money (refused before its first attempt)."""
        ...

    async def expire(self) -> list[str]:
        """End the holds whose lease has run out, settled at their amount and marked estimated; returns their ids.

        A shared store releases one with which no step was taken since it was opened (docs/running.md): its replica may
        never have heard of it. With the embedded store whoever opened a hold was there, and it is settled.
        """
        ...

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        """Every cap in force, in the order of the table; or those of some scopes, scope by scope. Raises
        StoreUnavailable.
        """
        ...

    async def rate_statuses(self, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        """Every rate limit in force, in the order of the table, or those of some scopes. Raises StoreUnavailable."""
        ...

    async def cap_counts(self) -> CapCounts:
        """Over all caps in force, in steps that let requests pass. Raises StoreUnavailable."""
        ...

    async def check(self) -> None:
        """Write something that changes nothing: whether steps can be taken now. Raises StoreUnavailable."""
        ...

    async def aclose(self) -> None: ...
