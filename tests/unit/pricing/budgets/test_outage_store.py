"""What passes while a budget store is down, what is kept, and how it is written when the store is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.outage import KEPT_AT_MOST, SPARED_S, OutageStore, StoreState
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import MeterEntry, OpenHold
from pricing.clock import ManualClock
from pricing.errors import BudgetExceeded, HoldEnded, StoreUnavailable
from pricing.ledger.read import find_request, recent_rows
from pricing.ledger.rows import WITHOUT_STORE, House, LedgerRow
from pricing.prices.billed import Billed
from pricing.verify.file import verify
from support.fragile_store import FragileStore
from support.money import ACME, GLOBEX, cap, caps, paid, request, wish
from support.values import replace

ALLOWANCE = 50


@dataclass
class Kept:
    """A store in front of a fragile one over a real file."""

    clock: ManualClock
    inner: FragileStore
    store: OutageStore
    path: Path
    told: list[StoreState]

    def rows(self) -> dict[str, LedgerRow]:
        return {row.row_id: row for row in recent_rows(self.path, 1_000)}

    async def spent(self) -> dict[str, int]:
        return {status.cap: status.spent_nusd for status in await self.store.statuses()}

    async def falls(self) -> None:
        """Down, and noticed."""
        self.inner.down = True
        assert not await self.store.recover()

    async def returns(self) -> None:
        self.inner.down = self.inner.deaf = False
        assert await self.store.recover()


def setup(folder: Path, beside: LocalMeters | None = None) -> Kept:
    """`beside`: meters of attempts that are let run meanwhile, other than the store's own."""
    clock = ManualClock()
    path = folder / "ledger.sqlite"
    table = caps(cap(100), cap(80, scope="tenant:globex"))
    real = SqliteStore(path, clock, table)
    real.meters.set_rate("l4", clock.wall_us(), 3_600_000_000, 1)
    real.meters.set_containers("l4", clock.wall_us(), 1, 0)
    inner = FragileStore(real)
    told: list[StoreState] = []
    store = OutageStore(
        inner,
        clock,
        table,
        beside or real.meters,
        on_change=told.append,
        jitter=lambda: 1.0,
        metered_beside=beside is not None,
    )
    store.allow(ALLOWANCE)
    return Kept(clock, inner, store, path, told)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = setup(tmp_path)
    assert await made.store.recover()
    made.inner.asked.clear()
    yield made
    made.inner.down = made.inner.deaf = False
    await made.store.aclose()
    assert verify(made.path, made.clock.wall_us()).problems == ()


def asking(hold_id: str, amount: int, *scopes: object, allow: bool = True, **more: object) -> OpenHold:
    return replace(wish(hold_id, amount, *scopes), without_store=allow, **more)  # type: ignore[arg-type]


async def test_up_every_step_goes_through(kept: Kept) -> None:
    """Without trouble the store in front is not noticed."""
    hold = await kept.store.open(asking("r:1", 40))
    [extended] = await kept.store.extend([("r:1", 60)])
    second = await kept.store.settle_and_open(paid("r:1", 30), asking("r:2", 20, anchor_us=hold.anchor_us))
    await kept.store.settle(paid("r:2", 20, request=request("r", attempts=2)))
    assert (hold.without_store, extended.amount_nusd, second.amount_nusd) == (False, 60, 20)
    assert await kept.spent() == {"acme/day": 50, "globex/day": 0}
    assert all(row.tags == () for row in kept.rows().values())
    assert (kept.told, kept.store.state().up) == ([], True)


async def test_rejecting_requests_are_refused_without_asking(kept: Kept) -> None:
    """The first one that fails says that the store is down; who comes after it does not wait for the store."""
    kept.inner.down = True
    for index in range(3):
        with pytest.raises(StoreUnavailable, match="the store is down"):
            await kept.store.open(asking(f"r{index}:1", 1, allow=False))
    assert kept.inner.asked == ["open r0:1"]
    assert (kept.told[0].up, kept.store.state().refused) == (False, 3)


async def test_allowed_requests_pass_within_the_allowance(kept: Kept) -> None:
    """Over all tenants, open holds and what was spent of ended ones together."""
    await kept.falls()
    assert (await kept.store.open(asking("a:1", 30))).without_store
    await kept.store.settle(paid("a:1", 20, request=request("a")))
    await kept.store.open(asking("b:1", 30, GLOBEX))
    with pytest.raises(StoreUnavailable, match=r"of the \$0\.0000 .* is left"):
        await kept.store.open(asking("c:1", 1))
    state = kept.store.state()
    assert (state.allowed, state.refused, state.allowance_left_nusd, state.kept) == (2, 1, 0, 1)
    await kept.store.release("b:1")
    assert kept.store.state().allowance_left_nusd == 30
    await kept.returns()


async def test_rows_are_written_in_order_marked_and_exact(kept: Kept) -> None:
    """When the store is back, its budgets show what was spent without it, and the ledger says which rows those are."""
    await kept.store.open(asking("before:1", 40))
    await kept.falls()
    await kept.store.open(asking("during:1", 10))
    await kept.store.settle(paid("during:1", 7, request=request("during")))
    await kept.store.settle(paid("before:1", 33, request=request("before")))
    assert kept.rows() == {}
    await kept.returns()
    assert kept.inner.asked[-3:] == ["open during:1~1", "settle during:1~1", "settle before:1"]
    assert {name: (row.amount_nusd, row.tags) for name, row in kept.rows().items()} == {
        "during:1:attempt": (7, (WITHOUT_STORE,)),
        "before:1:attempt": (33, ()),
    }
    assert await kept.spent() == {"acme/day": 40, "globex/day": 0}
    assert find_request(kept.path, "during") is not None
    assert kept.told[-1].up


async def test_who_was_known_to_be_exhausted_stays_out(kept: Kept) -> None:
    """The caps as last seen, less what was granted since, refuse as they would have."""
    await kept.store.open(asking("a:1", 90))
    await kept.falls()
    with pytest.raises(BudgetExceeded, match="acme/day"):
        await kept.store.open(asking("b:1", 11))
    await kept.store.open(asking("c:1", 10))
    assert kept.store.room([ACME]).left_nusd == 0
    refused = kept.store.refusal([ACME], 1)
    assert refused is not None
    with pytest.raises(BudgetExceeded, match="acme/day"):
        await kept.store.open(asking("d:1", 1))
    await kept.store.settle(paid("c:1", 4))
    assert kept.store.room([ACME]).left_nusd == 6


async def test_running_holds_grow_out_of_the_allowance(kept: Kept) -> None:
    """What was open before goes on if its class may; the store takes it over, or it is settled beyond the hold."""
    await kept.store.open(asking("a:1", 10))
    await kept.store.open(asking("b:1", 10, GLOBEX, allow=False))
    await kept.falls()
    a, b, gone = await kept.store.extend([("a:1", 30), ("b:1", 30), ("x:1", 5)])
    assert (a.granted, a.amount_nusd, a.store_down) == (True, 30, False)
    assert (b.granted, b.amount_nusd, b.store_down) == (False, 10, True)
    assert (gone.granted, gone.amount_nusd) == (False, 0)
    assert kept.store.state().allowance_left_nusd == ALLOWANCE - 20
    [beyond] = await kept.store.extend([("a:1", 81)])
    assert (beyond.granted, beyond.amount_nusd, beyond.store_down) == (False, 30, True)
    await kept.store.settle(paid("a:1", 25))
    await kept.returns()
    assert await kept.spent() == {"acme/day": 25, "globex/day": 0}
    assert kept.rows()["a:1:attempt"].tags == (WITHOUT_STORE,)


async def test_the_store_takes_over_what_grew_without_it(kept: Kept) -> None:
    """A hold that is still open when the store is back is the store's own again, as far as its caps have room."""
    await kept.store.open(asking("a:1", 10))
    await kept.falls()
    await kept.store.extend([("a:1", 30)])
    await kept.returns()
    [grown] = await kept.store.extend([("a:1", 35)])
    assert (grown.granted, grown.amount_nusd) == (True, 35)
    assert kept.store.room([ACME]).left_nusd == 65
    await kept.store.settle(paid("a:1", 35))
    assert kept.rows()["a:1:attempt"].tags == ()


async def test_a_hold_granted_without_a_store_ends_as_such(kept: Kept) -> None:
    """The store is back before the request ends: its hold stays within the allowance, and is written when it ends."""
    await kept.falls()
    await kept.store.open(asking("a:1", 10))
    await kept.returns()
    [grown] = await kept.store.extend([("a:1", 20)])
    assert (grown.granted, grown.amount_nusd) == (True, 20)
    await kept.store.open(asking("b:1", 70))
    [refused] = await kept.store.extend([("a:1", 31)])
    assert (refused.granted, refused.store_down) == (False, False)  # the cap, as it stands now
    await kept.store.settle(paid("a:1", 20, request=request("a")))
    assert kept.rows()["a:1:attempt"].tags == (WITHOUT_STORE,)
    assert await kept.spent() == {"acme/day": 20, "globex/day": 0}
    await kept.store.release("b:1")


async def test_a_chain_goes_on_over_the_beginning_and_the_end_of_an_outage(kept: Kept) -> None:
    """Attempts of one request before, during and after: each is written once, in the windows of the first."""
    first = await kept.store.open(asking("a:1", 10))
    kept.inner.down = True
    second = await kept.store.settle_and_open(paid("a:1", 5), asking("a:2", 10, anchor_us=first.anchor_us))
    await kept.returns()
    third = await kept.store.settle_and_open(paid("a:2", 6), asking("a:3", 10, anchor_us=first.anchor_us))
    await kept.store.settle(paid("a:3", 7, request=request("a", attempts=3)))
    assert (second.without_store, third.without_store) == (True, False)
    assert [row.amount_nusd for row in reversed(list(kept.rows().values()))] == [5, 6, 7]
    assert await kept.spent() == {"acme/day": 18, "globex/day": 0}


async def test_neither_half_stands_when_the_next_attempt_cannot_start(kept: Kept) -> None:
    """The request ends then, and settles what is open with its summary."""
    await kept.store.open(asking("a:1", 10, allow=False))
    kept.inner.down = True
    with pytest.raises(StoreUnavailable):
        await kept.store.settle_and_open(paid("a:1", 5), asking("a:2", 10, allow=False))
    await kept.store.settle(paid("a:1", 5, request=request("a")))
    await kept.returns()
    assert find_request(kept.path, "a") is not None
    assert await kept.spent() == {"acme/day": 5, "globex/day": 0}


@pytest.mark.parametrize("step", ["open", "settle", "both"])
async def test_a_step_whose_answer_was_lost_is_counted_once(kept: Kept, step: str) -> None:
    """The store has taken the step, and fell silent: what is written afterwards does not count it again."""
    if step == "open":
        kept.inner.deaf = True
        assert (await kept.store.open(asking("a:1", 10))).without_store
        await kept.returns()
    elif step == "settle":
        await kept.store.open(asking("a:1", 10))
        kept.inner.deaf = True
    else:
        await kept.store.open(asking("a:1", 10))
        kept.inner.deaf = True
        await kept.store.settle_and_open(paid("a:1", 3), asking("a:2", 10))
        await kept.returns()
    last = 2 if step == "both" else 1
    await kept.store.settle(paid(f"a:{last}", 7, request=request("a", attempts=last)))
    await kept.returns()
    assert await kept.spent() == {"acme/day": 10 if step == "both" else 7, "globex/day": 0}
    assert find_request(kept.path, "a") is not None
    assert kept.store.room([ACME]).left_nusd == (90 if step == "both" else 93)


async def test_settling_twice_is_an_error_up_and_down(kept: Kept) -> None:
    """What is kept counts as ended."""
    await kept.store.open(asking("a:1", 10))
    await kept.falls()
    await kept.store.settle(paid("a:1", 5))
    with pytest.raises(HoldEnded):
        await kept.store.settle(paid("a:1", 5))
    await kept.returns()
    with pytest.raises(HoldEnded):
        await kept.store.settle(paid("a:1", 5))


async def test_an_allowance_is_granted_once_an_outage(kept: Kept) -> None:
    """What ended stays used until the outage is over; the next outage has all of it again."""
    await kept.falls()
    await kept.store.open(asking("a:1", 50))
    await kept.store.settle(paid("a:1", 50))
    with pytest.raises(StoreUnavailable):
        await kept.store.open(asking("b:1", 1))
    await kept.returns()
    await kept.falls()
    await kept.store.open(asking("b:1", 50))
    await kept.store.settle(paid("b:1", 50))
    await kept.returns()
    with pytest.raises(BudgetExceeded):
        await kept.store.open(asking("c:1", 1))


async def test_holds_that_nobody_ends_expire_here_too(kept: Kept) -> None:
    """An attempt whose task died leaves a hold; it ends with its lease and is written as an estimate."""
    await kept.falls()
    await kept.store.open(asking("a:1", 10))
    kept.clock.advance(31)
    assert await kept.store.expire() == ["a:1"]
    await kept.returns()
    row = kept.rows()["a:1:attempt"]
    assert (row.amount_nusd, row.estimated, row.tags) == (10, True, (WITHOUT_STORE,))


async def test_endings_come_before_leases_after_a_long_outage(kept: Kept) -> None:
    """Longer than a lease: what ended meanwhile is exact, since no hold expires before endings could be written."""
    await kept.store.open(asking("a:1", 10))
    await kept.store.open(asking("b:1", 10))
    await kept.falls()
    kept.clock.advance(3_600)
    await kept.store.settle(paid("a:1", 5))
    await kept.returns()
    assert await kept.store.expire() == []
    await kept.store.settle(paid("b:1", 6))
    kept.clock.advance(SPARED_S)
    assert await kept.store.expire() == []
    assert [row.estimated for row in kept.rows().values()] == [False, False]


async def test_a_connection_that_breaks_again_and_again_keeps_no_hold_from_expiring(kept: Kept) -> None:
    """Short outages spare holds for a short time."""
    await kept.store.open(asking("a:1", 10))
    expired: list[str] = []
    for _ in range(20):
        await kept.falls()
        await kept.returns()
        kept.clock.advance(SPARED_S / 4)
        expired += await kept.store.expire()
    assert expired == ["a:1"]


async def test_attempts_are_metered_here(kept: Kept) -> None:
    """A hold that was granted without the store runs on the pool's clock, and leaves it when it ends."""
    await kept.falls()
    await kept.store.open(asking("a:1", 10, meter=MeterEntry("l4")))
    real = kept.inner.store
    assert isinstance(real, SqliteStore)
    kept.clock.advance(2)
    assert (await real.meters.read([("l4", "a:1")]))["a:1"].accrued_nusd == 2_000_000
    await kept.store.release("a:1")
    assert await real.meters.read([("l4", "a:1")]) == {}
    await kept.returns()


@pytest.mark.parametrize("bills_idle", [True, False, None])
async def test_what_the_stores_meters_called_idle_is_taken_out_where_it_cost(
    tmp_path: Path, bills_idle: bool | None
) -> None:
    """They took nothing for it where idle time is not billed, nor for a pool that is billed by the token (None)."""
    clock = ManualClock()
    beside = LocalMeters(clock, lambda _: asyncio.sleep(0))
    if bills_idle is not None:
        beside.set_rate("l4", clock.wall_us(), 3_600_000_000, 1, Billed(idle=bills_idle))
    made = setup(tmp_path, beside)
    assert await made.store.recover()
    await made.falls()
    await made.store.open(asking("a:1", 10))
    await made.store.settle(paid("a:1", 8))
    await made.returns()
    amounts = {row.account: row.amount_nusd for row in made.rows().values()}
    assert amounts == {"acme": 8, House.ADJUSTMENT: -8} if bills_idle else {"acme": 8}
    await made.store.aclose()


async def test_what_is_kept_is_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound a request is refused; what is kept is not given up."""
    monkeypatch.setattr("pricing.budgets.outage.KEPT_AT_MOST", 3)
    assert KEPT_AT_MOST == 10_000
    await kept.falls()
    for index in range(3):
        await kept.store.open(asking(f"r{index}:1", 1))
        await kept.store.settle(paid(f"r{index}:1", 1))
    with pytest.raises(StoreUnavailable, match="endings wait to be written"):
        await kept.store.open(asking("r3:1", 1))
    await kept.returns()
    assert await kept.spent() == {"acme/day": 3, "globex/day": 0}


async def test_closing_says_what_is_lost(tmp_path: Path) -> None:
    """A stop in the midst of an outage does not pretend."""
    kept = setup(tmp_path)
    await kept.returns()
    await kept.falls()
    await kept.store.open(asking("a:1", 10))
    await kept.store.settle(paid("a:1", 10))
    with pytest.raises(StoreUnavailable, match="1 endings were not written: the store is down"):
        await kept.store.aclose()


async def test_the_store_is_asked_again_with_growing_pauses(kept: Kept) -> None:
    """One task asks, whatever the number of requests; the pauses double up to two seconds."""
    kept.inner.down = True
    pauses: list[int] = []
    came_back = asyncio.Event()

    def told(state: StoreState) -> None:
        if state.up:
            came_back.set()

    def jitter() -> float:
        pauses.append(kept.clock.mono_us())
        if len(pauses) == 8:
            kept.inner.down = False
        return 1.0

    real = kept.inner.store
    assert isinstance(real, SqliteStore)
    store = OutageStore(kept.inner, kept.clock, caps(), real.meters, on_change=told, jitter=jitter)
    with pytest.raises(StoreUnavailable):
        await store.open(asking("r:1", 1, allow=False))
    task = asyncio.create_task(store.keep_up())
    async with asyncio.timeout(10):
        await came_back.wait()
    task.cancel()
    gaps = [(late - early) / 1e6 for early, late in pairwise(pauses)]
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


async def test_a_replica_that_has_never_seen_the_caps_grants_nothing(tmp_path: Path) -> None:
    """Started in an outage it cannot know who is exhausted; it grants once the store was there."""
    kept = setup(tmp_path)
    await kept.falls()
    with pytest.raises(StoreUnavailable, match="has not seen yet who is out of budget"):
        await kept.store.open(asking("a:1", 1))
    assert kept.store.state().allowance_left_nusd == 0
    await kept.returns()
    await kept.falls()
    assert (await kept.store.open(asking("b:1", 1))).without_store
    await kept.store.release("b:1")
    await kept.returns()
    await kept.store.aclose()
