"""What every budget store promises, asked of each of them."""

import asyncio
from dataclasses import replace as changed

import pytest

from pricing.budgets.caps import CapTable, Dimension, RateLimits, Scope, Unlimited, parse_scope
from pricing.budgets.store import CapCounts, RateStanding, Settlement, Standing
from pricing.errors import BudgetExceeded, HoldEnded, RateLimited, StoreUnavailable
from pricing.ledger.rows import House, RowKind
from support.money import ACME, GLOBEX, POOL, US, cap, caps, house_row, paid, request, row, wish
from support.stores import TABLE, StoreSetup
from support.values import replace


async def test_a_hold_is_granted_extended_and_settled(setup: StoreSetup) -> None:
    """The way of most money: set aside, grown, spent in part, the rest free again."""
    hold = await setup.store.open(wish("r:1", 40))
    assert (hold.amount_nusd, hold.good_for_s, hold.anchor_us) == (40, 30.0, setup.clock.wall_us())
    [extended] = await setup.store.extend([("r:1", 70)])
    assert (extended.granted, extended.amount_nusd) == (True, 70)
    await setup.store.settle(paid("r:1", 55, request=request("r")))
    assert await setup.spent() == {"acme/day": 55, "pool:l4/day": 55, "acme/week": 55}
    assert await setup.left(ACME) == 45
    assert [each.amount_nusd for each in setup.rows().values()] == [55]
    assert setup.request("r") == request("r")


async def test_a_refusal_reserves_nothing(setup: StoreSetup) -> None:
    """The pool has room for both, the tenant for one: the refused one holds nothing in the pool either."""
    await setup.store.open(wish("r:1", 60))
    with pytest.raises(BudgetExceeded, match="acme/day"):
        await setup.store.open(wish("r:2", 60))
    assert await setup.left(POOL) == 90


async def test_many_at_once_never_pass_the_cap(setup: StoreSetup) -> None:
    """Of fifty requests that each want a tenth of the cap, ten get it."""
    results = await asyncio.gather(
        *(setup.store.open(wish(f"r{index}:1", 10)) for index in range(50)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 10
    assert all(isinstance(result, BudgetExceeded) for result in results if isinstance(result, BaseException))


async def test_opening_the_same_id_twice_returns_the_same_hold(setup: StoreSetup) -> None:
    """A caller that repeats itself does not hold twice, not even at the same time."""
    holds = await asyncio.gather(setup.store.open(wish("r:1", 60)), setup.store.open(wish("r:1", 60)))
    assert holds[0] == holds[1]
    assert await setup.left(ACME) == 40


async def test_one_batch_extends_who_fits_and_refuses_the_others(setup: StoreSetup) -> None:
    """Each hold of a batch is answered by itself, in the order asked; ids that nobody knows get nothing."""
    await setup.store.open(wish("r:1", 30))
    await setup.store.open(wish("r:2", 30))
    answers = await setup.store.extend([("r:1", 60), ("r:2", 60), ("r:9", 1)])
    assert [(each.hold_id, each.amount_nusd, each.granted) for each in answers] == [
        ("r:1", 60, True),
        ("r:2", 30, False),
        ("r:9", 0, False),
    ]
    assert [each.why for each in answers] == ["", "", "hold r:9 has ended or was never opened; extend open holds only"]


@pytest.mark.parametrize("how", ["settled", "released", "expired"])
async def test_a_hold_extended_after_its_end_says_how_it_ended_and_changes_nothing(setup: StoreSetup, how: str) -> None:
    """Whoever extends it, or ends it again, hears in the same words of every store what had happened to it."""
    await setup.store.open(wish("r:1", 30))
    await setup.store.extend([("r:1", 30)])
    if how == "expired":
        setup.clock.advance(30)
        await setup.store.expire()
    else:
        await (setup.store.settle(paid("r:1", 30)) if how == "settled" else setup.store.release("r:1"))
    before = await setup.spent(), await setup.left(ACME), setup.rows()
    [answer] = await setup.store.extend([("r:1", 60)])
    assert (answer.granted, answer.amount_nusd, answer.good_for_s) == (False, 0, 0.0)
    assert answer.why == f"hold r:1 was {how} before; extend open holds only"
    if how != "expired":  # what ends an expired one is told late, and stands
        with pytest.raises(HoldEnded, match=f"^hold r:1 was {how} before; settle each hold once$"):
            await setup.store.settle(paid("r:1", 30))
    assert (await setup.spent(), await setup.left(ACME), setup.rows()) == before


async def test_settling_and_opening_is_one_step(setup: StoreSetup) -> None:
    """Attempt 2 uses the room that attempt 1 gives back, in the windows of attempt 1."""
    first = await setup.store.open(wish("r:1", 90))
    setup.clock.advance(3_600)
    second = await setup.store.settle_and_open(paid("r:1", 20), wish("r:2", 80, anchor_us=first.anchor_us))
    assert second.anchor_us == first.anchor_us
    assert await setup.left(ACME) == 0


async def test_a_settlement_stands_although_the_next_hold_is_refused(setup: StoreSetup) -> None:
    """The refused second hold does not undo what the first has cost."""
    await setup.store.open(wish("r:1", 90))
    with pytest.raises(BudgetExceeded):
        await setup.store.settle_and_open(paid("r:1", 50), wish("r:2", 60))
    assert (await setup.spent())["acme/day"] == 50
    assert list(setup.rows()) == ["r:1:attempt"]
    assert await setup.left(ACME) == 50


async def test_a_release_spends_nothing(setup: StoreSetup) -> None:
    """A hold that is released leaves its summary and no money."""
    await setup.store.open(wish("r:1", 90))
    await setup.store.release("r:1", request("r", outcome="refused"))
    assert await setup.left(ACME) == 100
    assert not setup.rows()
    assert setup.request("r") is not None


async def test_a_hold_ends_once(setup: StoreSetup) -> None:
    """Whoever comes second gets HoldEnded, and nothing is written."""
    await setup.store.open(wish("r:1", 90))
    await setup.store.settle(paid("r:1", 10))
    for second_end in (setup.store.settle(paid("r:1", 10)), setup.store.release("r:1")):
        with pytest.raises(HoldEnded):
            await second_end
    assert (await setup.spent())["acme/day"] == 10


async def test_a_settlement_within_its_hold_unless_answers_are_finished(setup: StoreSetup) -> None:
    """Beyond the hold is a mistake under `cut` and allowed under `finish`, where it may pass the cap."""
    await setup.store.open(wish("r:1", 90))
    with pytest.raises(ValueError, match="do not fit"):
        await setup.store.settle(paid("r:1", 91))
    await setup.store.settle(paid("r:1", 130, may_exceed_hold=True))
    assert (await setup.spent())["acme/day"] == 130


async def test_rows_and_spend_must_be_the_same_money(setup: StoreSetup) -> None:
    """A settlement whose rows charge tenants another sum than it spends is refused."""
    await setup.store.open(wish("r:1", 90))
    with pytest.raises(ValueError, match="same money"):
        await setup.store.settle(Settlement("r:1", 10, (row("r:1", 11),)))


async def test_what_the_house_pays_is_not_the_tenants(setup: StoreSetup) -> None:
    """An overrun and a failed attempt are rows of the house, and no budget of the tenant spends them."""
    await setup.store.open(wish("r:1", 30))
    overrun = replace(
        row("r:1", 12, House.OVERRUN), row_id="r:1:overrun", kind=RowKind.OVERRUN, metered_nusd=0, tenant="acme"
    )
    await setup.store.settle(Settlement("r:1", 30, (row("r:1", 30, metered_nusd=42), overrun)))
    await setup.store.open(wish("s:1", 30))
    await setup.store.settle(Settlement("s:1", 0, (row("s:1", 25, House.FAILED),)))
    assert (await setup.spent())["acme/day"] == 30
    assert sum(each.amount_nusd for each in setup.rows().values()) == 67


async def test_boot_and_idle_count_on_pools_and_never_on_tenants(setup: StoreSetup) -> None:
    """Container time that no request caused is spent by pool caps, once, however often it is posted."""
    rows = [
        house_row("l4@1:0:boot", RowKind.BOOT, 40, setup.clock.wall_us()),
        house_row("l4@1:0:idle", RowKind.IDLE, 50, setup.clock.wall_us()),
        house_row("l4@1:0:adjustment", RowKind.ADJUSTMENT, 5, setup.clock.wall_us()),
    ]
    await setup.store.post(rows)
    await setup.store.post(rows)
    await setup.restart()
    await setup.store.post(rows)
    assert await setup.spent() == {"acme/day": 0, "pool:l4/day": 90, "acme/week": 0}
    assert len(setup.rows()) == 3
    with pytest.raises(ValueError, match="not the house"):
        await setup.store.post([row("r:1", 5)])


async def test_a_request_that_never_held_money_is_recorded(setup: StoreSetup) -> None:
    """A refusal before the first attempt leaves a summary."""
    await setup.store.record(request("r", outcome="refused", status=429))
    stored = setup.request("r")
    assert stored is not None
    assert (stored.status, setup.rows()) == (429, {})


async def test_replaced_caps_hold_from_the_next_step_on(setup: StoreSetup) -> None:
    """A lowered cap refuses at once, a cap for another scope sees what was spent before it existed."""
    await setup.store.open(wish("r:1", 60, ACME, POOL, parse_scope("class:chat")))
    setup.use(caps(cap(70), cap(65, scope="class:chat")))
    assert await setup.left(parse_scope("class:chat")) == 5
    with pytest.raises(BudgetExceeded, match="acme/day"):
        await setup.store.open(wish("s:1", 11))


async def test_scopes_without_caps_are_free(setup: StoreSetup) -> None:
    """A tenant that no cap names spends as it likes, and its spend is remembered for the cap to come."""
    await setup.store.open(wish("r:1", 10**12, GLOBEX))
    assert await setup.left(GLOBEX) is None
    setup.use(caps(cap(5, scope="tenant:globex")))
    assert (await setup.store.statuses())[0].held_nusd == 10**12


KEY = parse_scope("key:k1")


def limited(*limits: tuple[Scope, RateLimits]) -> CapTable:
    return changed(TABLE, limits=dict(limits))


async def test_a_hold_says_how_its_scopes_stand(setup: StoreSetup) -> None:
    """What the tightest cap leaves, and the tightest limit of each rate, with when all of it is back."""
    setup.use(limited((ACME, RateLimits(3, 100)), (KEY, RateLimits(2, 500))))
    hold = await setup.store.open(replace(wish("r:1", 40, ACME, KEY), tokens=30))
    assert hold.standing == Standing(60, RateStanding(2, 1, 65.0), RateStanding(100, 70, 65.0))
    unlimited = await setup.store.open(wish("s:1", 40, GLOBEX))
    assert unlimited.standing == Standing()


async def test_rate_limits_refuse_with_when_to_come_back(setup: StoreSetup) -> None:
    """A request over a limit counts nothing and holds nothing; once the minute has slid past, it is let through."""
    setup.use(limited((ACME, RateLimits(requests_per_minute=1))))
    await setup.store.open(wish("r:1", 40))
    setup.clock.advance(7)
    with pytest.raises(RateLimited, match="requests per minute") as refused:
        await setup.store.open(wish("s:1", 40))
    assert (refused.value.scope, refused.value.dimension, refused.value.limit) == ("tenant:acme", "requests", 1)
    assert refused.value.retry_after_s == 58.0
    assert await setup.left(ACME) == 60
    setup.clock.advance(58)
    await setup.store.open(wish("t:1", 40))


async def test_caps_are_asked_before_rates_and_attempts_that_go_on_are_not_asked(setup: StoreSetup) -> None:
    """Without room in a cap that is said; a later attempt of a request is neither counted nor refused by a limit."""
    setup.use(limited((ACME, RateLimits(requests_per_minute=1, in_flight=1))))
    first = await setup.store.open(wish("r:1", 40))
    with pytest.raises(BudgetExceeded):
        await setup.store.open(wish("s:1", 61))
    with pytest.raises(RateLimited):
        await setup.store.open(wish("s:2", 10))
    await setup.store.open(wish("r:2", 10, anchor_us=first.anchor_us))
    assert [(each.dimension, each.used) for each in await setup.store.rate_statuses()] == [
        (Dimension.REQUESTS, 1),
        (Dimension.IN_FLIGHT, 2),
    ]


async def test_tokens_are_corrected_in_the_minute_of_the_request(setup: StoreSetup) -> None:
    """What `usage` says less than was counted is free at once."""
    setup.use(limited((ACME, RateLimits(tokens_per_minute=100))))
    await setup.store.open(replace(wish("r:1", 10), tokens=90))
    with pytest.raises(RateLimited, match="tokens"):
        await setup.store.open(replace(wish("s:1", 10), tokens=20))
    await setup.store.settle(paid("r:1", 10, more_tokens=-60))
    hold = await setup.store.open(replace(wish("t:1", 10), tokens=20))
    assert hold.standing.tokens == RateStanding(100, 50, 65.0)


async def test_a_hold_that_was_granted_without_the_store_is_booked_whatever_caps_say(setup: StoreSetup) -> None:
    """What was let through while the store was down counts when it is back, caps and limits or not."""
    setup.use(limited((ACME, RateLimits(requests_per_minute=0))))
    granted = replace(wish("r:1", 900, anchor_us=setup.clock.wall_us()), granted=True)
    await setup.store.open(granted)
    await setup.store.settle(paid("r:1", 900))
    assert (await setup.spent())["acme/day"] == 900


async def test_a_store_that_takes_steps_says_so(setup: StoreSetup) -> None:
    """The check passes and leaves nothing behind."""
    await setup.store.check()
    assert (await setup.spent())["acme/day"] == 0
    assert setup.rows() == {}


async def test_a_value_that_no_file_can_hold_fails_its_step_alone_in_time(setup: StoreSetup) -> None:
    """An amount beyond 64 bits is refused, nothing hangs, and the store goes on."""
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await setup.store.open(wish("r:1", 2**63, GLOBEX))
    assert (await setup.store.open(wish("s:1", 5))).amount_nusd == 5


async def test_rows_come_back_as_they_were_written(setup: StoreSetup) -> None:
    """Every field of a row survives, tags and missing values included."""
    written = row("r:1", 55, tags=("batch", "eu"), ttft_us=7, tier=None, at_us=12 * US, outcome="cut")
    await setup.store.open(wish("r:1", 60))
    await setup.store.settle(Settlement("r:1", 55, (written,)))
    assert setup.rows()["r:1:attempt"] == written


async def test_caps_and_limits_of_some_scopes_are_shown_alone(setup: StoreSetup) -> None:
    """Scope by scope, each once; a scope without caps has none. Without scopes all are shown, in the table's order."""
    setup.use(limited((ACME, RateLimits(3)), (KEY, RateLimits(2))))
    await setup.store.open(wish("r:1", 40))
    some = await setup.store.statuses([ACME, GLOBEX, ACME])
    assert [(status.cap, status.held_nusd) for status in some] == [("acme/day", 40), ("acme/week", 40)]
    assert [status.cap for status in await setup.store.statuses()] == ["acme/day", "pool:l4/day", "acme/week"]
    assert [status.scope for status in await setup.store.rate_statuses([KEY, GLOBEX])] == [KEY]


async def test_caps_past_their_thresholds_are_counted(setup: StoreSetup) -> None:
    """Each cap counts for every threshold it has passed; 0 is exhausted from the start, unlimited never is."""
    lowers = cap(200, name="lowers", lower_tier_permille=500)
    nothing, endless = cap(0, scope="tenant:globex"), cap(Unlimited.UNLIMITED, name="endless")
    setup.use(caps(cap(100), lowers, nothing, endless))
    assert await setup.store.cap_counts() == CapCounts(warned=0, lowering=0, exhausted=1)
    await setup.store.open(wish("r:1", 90))
    await setup.store.settle(paid("r:1", 80))
    await setup.store.open(wish("s:1", 20))
    assert await setup.store.cap_counts() == CapCounts(warned=1, lowering=1, exhausted=2)
    setup.clock.advance(86_400 + 900)
    assert await setup.store.cap_counts() == CapCounts(warned=0, lowering=0, exhausted=1)


async def test_a_table_of_the_same_caps_changes_nothing(setup: StoreSetup) -> None:
    """Caps that are equal stay as they were, sums and sent warnings included; one that is edited is judged anew."""
    await setup.store.open(wish("r:1", 90))
    await setup.store.settle(paid("r:1", 85))
    assert [warning.cap for warning in setup.warnings] == ["acme/day"]
    for table in (caps(*(changed(each, place="moved:1") for each in TABLE.caps)), caps(cap(90), *TABLE.caps[1:])):
        setup.use(table.keeping(TABLE))
        await setup.store.open(wish(f"{table.caps[0].amount_nusd}:1", 5))
        await setup.store.release(f"{table.caps[0].amount_nusd}:1")
    assert await setup.left(ACME) == 5
    assert await setup.spent() == {"acme/day": 85, "pool:l4/day": 85, "acme/week": 85}
