"""Steps on Redis whose answer is lost, or whose replica never heard of it: each happens once, or not at all."""

from dataclasses import replace as changed

import pytest

from pricing.budgets.caps import RateLimits
from pricing.budgets.store import MeterEntry
from pricing.errors import HoldEnded, StoreUnavailable
from pricing.redis.meters import SharedMeters
from support.money import ACME, paid, request, wish
from support.redis_replicas import TABLE, Replicas
from support.unsteady_client import Cut
from support.values import replace


@pytest.mark.parametrize("cut", Cut)
async def test_a_settlement_that_is_repeated_counts_once(replicas: Replicas, cut: Cut) -> None:
    """The caller tries again what it heard nothing of; a second settlement after that is an error."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60))
    replicas.cut(store, cut)
    with pytest.raises(StoreUnavailable):
        await store.settle(paid("a:1", 50, request=request("a")))
    await store.settle(paid("a:1", 50, request=request("a")))
    assert (await replicas.spent(store))[0] == (50, 0)
    assert len(replicas.backend.entries()) == 1
    with pytest.raises(HoldEnded, match="settled before"):
        await store.settle(paid("a:1", 50))


async def test_a_settlement_is_known_even_when_the_store_has_forgotten_its_end(replicas: Replicas) -> None:
    """An outage may outlast what the store remembers of ends; what was settled then is not an error."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60))
    replicas.cut(store, Cut.UNHEARD)
    with pytest.raises(StoreUnavailable):
        await store.settle(paid("a:1", 50))
    replicas.backend.server.command("DEL", replicas.backend.key("ended:a:1"))
    replicas.clock.advance(600)
    await store.settle(paid("a:1", 50))
    assert (await replicas.spent(store))[0] == (50, 0)


async def test_a_store_that_has_lost_a_hold_says_so(replicas: Replicas) -> None:
    """When Redis comes back without what it had, a repeated settlement is not taken for one that was written."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60))
    replicas.cut(store, Cut.UNHEARD)
    with pytest.raises(StoreUnavailable):
        await store.settle(paid("a:1", 50))
    replicas.backend.server.command("DEL", *replicas.keys("*"))
    with pytest.raises(HoldEnded, match="never opened"):
        await store.settle(paid("a:1", 50))


async def test_opening_again_at_once_finds_the_hold_whose_answer_was_lost(replicas: Replicas) -> None:
    """The same id is the same hold, and counts once against the rate limits."""
    store = await replicas.start("one", changed(TABLE, limits={ACME: RateLimits(2)}))
    replicas.cut(store, Cut.UNHEARD)
    with pytest.raises(StoreUnavailable):
        await store.open(wish("a:1", 60))
    hold = await store.open(wish("a:1", 60))
    assert hold.standing.requests is not None
    assert (hold.amount_nusd, hold.standing.requests.remaining) == (60, 1)
    assert (await replicas.spent(store))[0] == (0, 60)


async def test_money_that_is_not_given_out_is_not_spent(replicas: Replicas) -> None:
    """A hold whose answer was lost and that nobody asks for again is released, before its lease ends."""
    store = await replicas.start("one")
    replicas.cut(store, Cut.UNHEARD)
    with pytest.raises(StoreUnavailable):
        await store.open(wish("a:1", 60))
    assert await store.expire() == []
    assert (await replicas.spent(store))[0] == (0, 0)


async def test_a_hold_that_its_replica_never_heard_of_is_not_charged(replicas: Replicas) -> None:
    """Its replica is cut off, and another ends it with its lease: the request was refused, so nothing is spent."""
    one, two = await replicas.start("one"), await replicas.start("two")
    replicas.cut(one, Cut.UNHEARD)
    with pytest.raises(StoreUnavailable):
        await one.open(wish("a:1", 60))
    await replicas.backend.client(one).aclose()
    replicas.clock.advance(30)
    assert await two.expire() == ["a:1"]
    assert replicas.backend.rows() == []
    assert (await replicas.spent(two))[0] == (0, 0)
    assert replicas.keys("hold:*") == []


@pytest.mark.parametrize("sign", ["grown", "metered"])
async def test_a_hold_that_its_replica_used_is_charged_when_its_lease_ends(replicas: Replicas, sign: str) -> None:
    """A tick, or an attempt that was done, says that somebody was served."""
    one, two = await replicas.start("one"), await replicas.start("two")
    clock = replicas.clock
    meters = SharedMeters(replicas.backend.client(one), replicas.backend.namespace, "one", clock, now=clock.wall_us)
    meters.set_rate("l4", clock.wall_us(), 3_600_000_000, 4)
    await meters.send_words()
    await one.open(replace(wish("a:1", 60), meter=MeterEntry("l4", 1, 500)))
    await (one.extend([("a:1", 60)]) if sign == "grown" else meters.leave("l4", "a:1"))
    clock.advance(30)
    assert await two.expire() == ["a:1"]
    assert (await replicas.spent(two))[0] == (60, 0)


async def test_what_nobody_heard_of_is_finished_before_the_store_is_used_again(replicas: Replicas) -> None:
    """A replica that reaches the server again releases first what it has refused."""
    store = await replicas.start("one")
    replicas.cut(store, Cut.UNHEARD)
    with pytest.raises(StoreUnavailable):
        await store.open(wish("a:1", 60))
    await store.start()
    assert (await replicas.spent(store))[0] == (0, 0)
