"""What passes while a budget store is down, what is kept, and how it is written when the store is back."""

from __future__ import annotations

import pytest

from pricing.budgets.outage import SPARED_S
from pricing.errors import BudgetExceeded, HoldEnded, StoreUnavailable
from pricing.ledger.read import find_request
from pricing.ledger.rows import WITHOUT_STORE
from support.money import ACME, GLOBEX, paid, request
from support.outages import ALLOWANCE, Kept, asking


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
