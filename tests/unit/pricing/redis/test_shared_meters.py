"""Meters that replicas share on a real Redis: one clock a pool, one observer, and rows of the house written once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pricing.budgets.caps import CapTable
from pricing.budgets.store import MeterEntry, Settlement
from pricing.clock import ManualClock
from pricing.errors import HoldEnded, StoreUnavailable
from pricing.ledger.entries import decode
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.meter.meters import PoolLoad
from pricing.prices.billed import ALL_BILLED, Billed
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.meters import OBSERVER_LEASE_S, Heard, SharedMeters
from pricing.redis.store import RedisStore
from support.money import cap, caps, house_row, wish
from support.real_redis import RedisServer
from support.values import replace

RATE = 3_600_000_000  # a million nano-dollars a second
PER_S = 1_000_000
POOL = "l4"


@dataclass
class Replica:
    """A store and its view of the meters, over a connection of its own."""

    name: str
    client: RedisClient
    store: RedisStore
    meters: SharedMeters
    heard: dict[str, Heard] = field(default_factory=dict)

    async def run(self, member: str, **more: int) -> None:
        """Open a hold that enters the meter."""
        await self.store.open(replace(wish(member, 10), meter=MeterEntry(POOL, **more)))

    async def look(self, *members: str) -> dict[str, int]:
        """One tick's look at the meters: what the members accrued."""
        readings = await self.meters.read([(POOL, member) for member in members])
        return {member: reading.accrued_nusd for member, reading in readings.items()}


class Replicas:
    """Several of them, on one server and one clock."""

    def __init__(self, server: RedisServer, table: CapTable) -> None:
        self.clock = ManualClock()
        self.namespace = uuid.uuid4().hex
        self._server = server
        self._table = table
        self._made: list[Replica] = []

    async def make(self, name: str, billed: Billed = ALL_BILLED) -> Replica:
        client = RedisClient(RedisAddress.from_url(self._server.url))
        await client.connect()
        now = self.clock.wall_us
        meters = SharedMeters(client, self.namespace, name, self.clock, now=now)
        store = RedisStore(
            client,
            self.clock,
            self._table,
            replica=name,
            namespace=self.namespace,
            now=now,
            on_load=meters.heard_load,
        )
        made = Replica(name, client, store, meters)
        meters.on_heard = lambda heard: made.heard.update({heard.pool: heard})
        meters.set_rate(POOL, now(), RATE, 4, billed)
        await meters.read([])
        await meters.send_words()
        self._made.append(made)
        return made

    def forget_words_after(self, count: int) -> None:
        """As a replica leaves a meter that knows no more than the first `count` words of its state."""
        key = f"{{{self.namespace}}}:meter:{POOL}"
        self._server.command("HSET", key, "state", self._server.command("HGET", key, "state")[: 8 * count])

    def rows(self) -> list[LedgerRow]:
        """Of the ledger's stream."""
        entries = self._server.command("XRANGE", f"{{{self.namespace}}}:rows", "-", "+")
        found = [decode(dict(zip(fields[::2], fields[1::2], strict=True))) for _, fields in entries]
        return [row for entry in found for row in entry.rows]

    async def aclose(self) -> None:
        for made in self._made:
            await made.meters.aclose()
            await made.client.aclose()


@pytest.fixture
async def replicas(redis_server: RedisServer) -> AsyncIterator[Replicas]:
    made = Replicas(redis_server, caps(cap(10**15), cap(10**15, scope=f"pool:{POOL}")))
    yield made
    await made.aclose()


LABEL = {POOL: house_row("", RowKind.IDLE, 0, 0)}


async def test_two_replicas_that_load_one_pool_each_pay_half(replicas: Replicas) -> None:
    """One container serves both: each sees half of its price, and each sees what the other runs."""
    one, two = await replicas.make("one"), await replicas.make("two")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
    await one.run("a:1", kv_tokens=300)
    await two.run("b:1", kv_tokens=500)
    assert two.meters.elsewhere(POOL) == PoolLoad(1, 300)  # the hold's own answer says so
    replicas.clock.advance(10)
    assert await one.look("a:1") == {"a:1": 5 * PER_S}
    assert (await two.meters.read([(POOL, "b:1")]))["b:1"].share_nusd_per_h == RATE // 2
    assert one.meters.elsewhere(POOL) == PoolLoad(1, 500)
    assert two.meters.elsewhere(POOL) == PoolLoad(1, 300)
    assert (await one.meters.leave(POOL, "a:1")).nusd == 5 * PER_S
    replicas.clock.advance(4)
    assert (await two.meters.leave(POOL, "b:1")).nusd == 9 * PER_S
    assert two.meters.elsewhere(POOL) == PoolLoad(0, 0)


async def test_a_charge_asked_for_again_is_the_same(replicas: Replicas) -> None:
    """An answer may be lost on its way; the hold remembers what was said, until it ends."""
    one = await replicas.make("one")
    await one.run("a:1")
    replicas.clock.advance(3)
    charge = (await one.meters.leave(POOL, "a:1")).nusd
    replicas.clock.advance(60)
    assert (await one.meters.leave(POOL, "a:1")).nusd == charge == 3 * PER_S
    await one.store.settle(Settlement("a:1", 0, ()))
    with pytest.raises(HoldEnded):
        await one.meters.leave(POOL, "a:1")


async def test_members_of_a_dead_replica_end_with_their_leases(replicas: Replicas) -> None:
    """Whoever expires the hold ends the member too; from then on the others share the pool alone."""
    one, two = await replicas.make("one"), await replicas.make("two")
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
    await one.run("dead:1")
    await two.run("alive:1")
    for _ in range(4):
        replicas.clock.advance(10)
        await two.store.extend([("alive:1", 10)])
        await two.store.expire()
    assert await two.look("alive:1", "dead:1") == {"alive:1": 25 * PER_S}  # 30 s by halves, then 10 s alone
    assert two.meters.elsewhere(POOL) == PoolLoad(0, 0)


async def test_a_settled_hold_takes_its_member_along(replicas: Replicas) -> None:
    """Whatever ends a hold ends what it metered."""
    one = await replicas.make("one")
    await one.run("a:1")
    await one.store.release("a:1")
    assert await one.look("a:1") == {}


async def test_one_replica_tells_what_the_list_says(replicas: Replicas) -> None:
    """All see the same list; counted twice, its corrections would be wrong by as much as they correct."""
    one, two = await replicas.make("one"), await replicas.make("two")
    assert (one.meters.observes, two.meters.observes) == (True, False)
    for each in (one, two):
        each.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
        each.meters.missed(POOL, "boot", 40_000_000)
        await each.meters.send_words()
    replicas.clock.advance(60)
    await two.meters.post_house(LABEL)
    await one.meters.post_house(LABEL)
    rows = {row.kind: (row.amount_nusd, row.duration_us) for row in replicas.rows()}
    assert rows == {RowKind.BOOT: (40 * PER_S, 40_000_000), RowKind.IDLE: (60 * PER_S, 60_000_000)}


async def test_a_replica_that_starts_resets_nothing(replicas: Replicas) -> None:
    """It knows nothing yet, and what it believes is not what the meter is told."""
    one = await replicas.make("one")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 2, 1, listed=True)
    await one.look()
    two = await replicas.make("two")
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0)  # what its files keep warm, before it saw a list
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 0, 0, listed=True)
    two.meters.set_rate(POOL, replicas.clock.wall_us(), 2 * RATE, 4)
    await two.look()
    assert two.heard[POOL] == Heard(POOL, 2, 1, None)
    replicas.clock.advance(10)
    await two.meters.post_house(LABEL)
    assert sum(row.amount_nusd for row in replicas.rows()) == 30 * PER_S


async def test_the_next_observer_says_what_it_knows(replicas: Replicas) -> None:
    """When the observer has died, its lease runs out and another one's list and prices count."""
    one, two = await replicas.make("one"), await replicas.make("two")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 3, 0, listed=True)
    two.meters.set_rate(POOL, replicas.clock.wall_us(), 2 * RATE, 4)
    await one.meters.send_words()
    replicas.clock.advance(OBSERVER_LEASE_S)
    await two.look()
    await two.meters.post_house(LABEL)
    replicas.clock.advance(10)
    await two.meters.post_house(LABEL)
    assert two.meters.observes
    idle = [row.amount_nusd for row in replicas.rows() if row.kind is RowKind.IDLE]
    assert idle == [round(OBSERVER_LEASE_S) * PER_S, 60 * PER_S]
    await two.look()
    await one.look()
    assert not one.meters.observes


async def test_time_that_nobody_watched_is_nobodys(replicas: Replicas) -> None:
    """All replicas are down for an hour: whether containers lived meanwhile cannot be known, as after any start."""
    one = await replicas.make("one")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 2, 0, listed=True)
    await one.look()
    replicas.clock.advance(3_600)
    two = await replicas.make("two")
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
    await two.meters.send_words()
    replicas.clock.advance(10)
    await two.meters.post_house(LABEL)
    assert [row.amount_nusd for row in replicas.rows()] == [(2 * round(OBSERVER_LEASE_S) + 10) * PER_S]


async def test_a_stop_hands_the_observers_place_on(replicas: Replicas) -> None:
    """The next look of any replica takes it; nobody waits for a lease."""
    one, two = await replicas.make("one"), await replicas.make("two")
    await one.meters.aclose()
    await two.look()
    assert two.meters.observes


async def test_what_answers_tell_is_anybodys_to_say(replicas: Replicas) -> None:
    """Where no platform lists containers, every replica tells what it met, and hears what the others did."""
    one, two = await replicas.make("one"), await replicas.make("two")
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 0, 1)
    await two.meters.send_words()
    await one.look()
    assert one.heard[POOL] == Heard(POOL, 0, 1, None)
    replicas.clock.advance(5)
    one.meters.set_containers(POOL, replicas.clock.wall_us() - 8_000_000, 1, 0)  # older than what two said
    await one.look()
    assert one.heard[POOL] == Heard(POOL, 0, 1, None)


async def test_how_long_a_pool_has_been_idle_is_known_to_all(replicas: Replicas) -> None:
    """A pool that another replica used a moment ago is as good as one that this replica used."""
    one, two = await replicas.make("one"), await replicas.make("two")
    await one.run("a:1")
    await two.look()
    assert two.heard[POOL].idle_us is None
    await one.meters.leave(POOL, "a:1")
    replicas.clock.advance(7)
    await two.look()
    assert two.heard[POOL].idle_us == 7_000_000


async def test_house_rows_count_on_their_pools_cap_once(replicas: Replicas) -> None:
    """Boot and idle count, adjustments do not, and no second drain finds them again."""
    one, two = await replicas.make("one"), await replicas.make("two")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 1, listed=True)
    await one.meters.send_words()
    replicas.clock.advance(10)
    one.meters.missed(POOL, "ready", 5_000_000)
    await one.meters.post_house(LABEL)
    await two.meters.post_house(LABEL)
    accounts = {row.account: row.amount_nusd for row in replicas.rows()}
    assert accounts == {House.BOOT: 10 * PER_S, House.IDLE: 10 * PER_S, House.ADJUSTMENT: 5 * PER_S}
    assert len({row.row_id for row in replicas.rows()}) == len(replicas.rows()) == 3
    [_, pool_cap] = await two.store.statuses()
    assert pool_cap.spent_nusd == 20 * PER_S


async def test_words_wait_for_a_server_that_is_down(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told meanwhile is sent with the first look that gets through, dated when it became true."""
    one = await replicas.make("one")

    async def down(*_: Any) -> Any:
        raise StoreUnavailable("nobody answers")

    with monkeypatch.context() as outage:
        outage.setattr(one.client, "evalsha", down)
        one.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
        one.meters.missed(POOL, "boot", 7_000_000)
        replicas.clock.advance(2)
        with pytest.raises(StoreUnavailable):
            await one.look()
    replicas.clock.advance(1)
    await one.meters.post_house(LABEL)
    assert [row.amount_nusd for row in replicas.rows()] == [7 * PER_S, 3 * PER_S]


async def test_a_word_whose_answer_was_lost_counts_once(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent again, and known by its number; a restarted replica of the same name goes on counting."""
    one = await replicas.make("one")
    one.meters.missed(POOL, "boot", 7_000_000)
    run = one.client.evalsha

    async def deaf(*words: Any) -> Any:
        await run(*words)
        raise StoreUnavailable("the answer was lost")

    with monkeypatch.context() as deafness:
        deafness.setattr(one.client, "evalsha", deaf)
        with pytest.raises(StoreUnavailable):
            await one.meters.send_words()
    await one.meters.post_house(LABEL)
    replicas.clock.advance(1)
    again = await replicas.make("one")
    again.meters.missed(POOL, "boot", 1_000_000)
    await again.meters.post_house(LABEL)
    assert [row.amount_nusd for row in replicas.rows()] == [7 * PER_S, PER_S]


async def test_a_server_that_lost_its_data_is_told_again(replicas: Replicas) -> None:
    """Prices and containers come back with the next look, so that attempts are metered as before."""
    one, two = await replicas.make("one"), await replicas.make("two")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 0, listed=True)
    await one.meters.send_words()
    await one.client.command(
        "DEL", *(f"{{{replicas.namespace}}}:{key}" for key in ("observer", "meters", f"meter:{POOL}"))
    )
    for each in (two, one, two):
        await each.look()
        await each.meters.send_words()
    await two.run("b:1")
    replicas.clock.advance(3)
    assert (await two.meters.leave(POOL, "b:1")).nusd == 3 * PER_S
    assert [each.meters.observes for each in (one, two)] == [False, True]


async def test_phases_that_are_not_billed_cost_nothing_on_any_replica(replicas: Replicas) -> None:
    """Their time is counted; a replica of an older version in between, whose state is shorter, changes nothing; nor do
    files that say otherwise at a replica that is not the observer.
    """
    one = await replicas.make("one", Billed(boot=False, idle=False))
    two = await replicas.make("two")
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 2, 1, listed=True)
    await one.look()
    await two.run("b:1")
    replicas.clock.advance(5)
    assert (await two.meters.leave(POOL, "b:1")).nusd == 5 * PER_S
    replicas.forget_words_after(39 + 4)  # those that came before what is asked for and spare
    replicas.clock.advance(5)
    await two.meters.post_house(LABEL)
    rows = {row.kind: (row.amount_nusd, row.duration_us) for row in replicas.rows()}
    assert rows == {RowKind.BOOT: (0, 10_000_000), RowKind.IDLE: (0, 15_000_000)}
    [_, pool_cap] = await two.store.statuses()
    assert pool_cap.spent_nusd == 0


async def test_a_book_that_bills_idle_time_takes_effect_on_all(replicas: Replicas) -> None:
    """From its instant on, and also where the next observer says so."""
    one = await replicas.make("one", Billed(idle=False))
    two = await replicas.make("two", Billed(boot=False))
    one.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 1, listed=True)
    two.meters.set_containers(POOL, replicas.clock.wall_us(), 1, 1, listed=True)
    await one.look()
    replicas.clock.advance(OBSERVER_LEASE_S)
    await two.look()
    await two.meters.send_words()
    replicas.clock.advance(10)
    await one.meters.post_house(LABEL)
    rows = {row.kind: row.amount_nusd for row in replicas.rows()}
    assert rows == {RowKind.BOOT: round(OBSERVER_LEASE_S) * PER_S, RowKind.IDLE: 10 * PER_S}
    two.meters.set_rate(POOL, replicas.clock.wall_us(), RATE, 4)
    await two.look()
    replicas.clock.advance(1)
    await one.meters.post_house(LABEL)
    assert [row.amount_nusd for row in replicas.rows()][2:] == [PER_S, PER_S]


def test_a_price_beyond_what_is_counted_exactly_is_refused() -> None:
    """$2,199 an hour for one container: refused when it is told, not rounded."""
    clock = ManualClock()
    meters = SharedMeters(RedisClient(RedisAddress.from_url("redis://127.0.0.1:1")), "any", "one", clock)
    with pytest.raises(ValueError, match="exactly"):
        meters.set_rate(POOL, clock.wall_us(), 1 << 41, 1)
