"""Verifying what replicas share finds every kind of disagreement, and only those, while they work as well as after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pricing.budgets.store import MeterEntry, Settlement
from pricing.ledger.rows import RECONCILED, WITHOUT_STORE, House, LedgerRow, RowKind
from pricing.reconcile.adjust import write_rows
from pricing.redis.meters import SharedMeters
from pricing.redis.store import RedisStore
from pricing.redis.verify import verify_shared
from pricing.verify.sqlite import Verification
from support.money import POOL, cap, caps, house_row, request, row, wish
from support.shared_ledger import SharedLedger, shared_ledger
from support.values import replace

RATE = 3_600_000_000  # a million nano-dollars a second


class Scene(SharedLedger):
    """A replica that serves on one pool, beside the ledger."""

    async def begin(self) -> None:
        now = self.clock.wall_us
        table = caps(cap(10**15), cap(10**15, scope="pool:l4"))
        self.store = RedisStore(self.client, self.clock, table, replica="r1", namespace=self.namespace, now=now)
        self.meters = SharedMeters(self.client, self.namespace, "r1", self.clock, now=now)
        self.meters.set_rate("l4", now(), RATE, 4)
        await self.meters.read([])
        await self.meters.send_words()

    async def open(self, hold_id: str, amount: int = 10_000_000, *scopes: object) -> None:
        asked = wish(hold_id, amount, *scopes)  # type: ignore[arg-type] # scopes are handed through
        await self.store.open(replace(asked, meter=MeterEntry("l4")))

    async def settle(self, hold_id: str, **more: object) -> LedgerRow:
        """The attempt is over: what its meter charged is spent, and its summary written."""
        charge = (await self.meters.leave("l4", hold_id)).nusd
        paid = replace(row(hold_id, charge, at_us=self.clock.wall_us()), **more)
        summary = request(paid.request_id or "", at_us=self.clock.wall_us(), attempts=9)
        await self.store.settle(Settlement(hold_id, charge, (paid,), summary))
        return paid

    async def serve(self, *hold_ids: str) -> None:
        for hold_id in hold_ids:
            await self.open(hold_id)
        self.clock.advance(1)
        for hold_id in hold_ids:
            await self.settle(hold_id)

    async def house(self) -> None:
        label = house_row("label", RowKind.IDLE, 0, 0)
        self.meters.set_containers("l4", self.clock.wall_us(), 2, 1)
        await self.meters.send_words()
        self.clock.advance(3)
        await self.meters.post_house({"l4": label})

    async def verify(self) -> Verification:
        return await verify_shared(self.client, self.namespace, self.url)


@pytest.fixture
async def scene(redis_url: str, postgres_url: str) -> AsyncIterator[Scene]:
    async with shared_ledger(redis_url, postgres_url) as ledger:
        made = Scene(ledger.client, ledger.url, ledger.namespace)
        await made.begin()
        try:
            yield made
        finally:
            await made.meters.aclose()
            await made.aclose()


async def test_an_empty_installation_agrees(scene: Scene) -> None:
    """Nothing was spent and nothing is wrong."""
    found = await scene.verify()
    assert (found.problems, found.rows, found.waiting) == ((), 0, 0)


async def test_all_that_can_happen_to_a_hold_agrees(scene: Scene) -> None:
    """Settled, cut with an overrun, released, expired, settled late, unheard of, still open, boots and idle time:
    drained or not, everything adds up.
    """
    await scene.serve("a:1", "b:1")
    await scene.house()
    await scene.drain()
    await scene.open("cut:1", 1_000)
    await scene.open("gone:1")
    await scene.open("left:1")
    await scene.open("released:1")
    await scene.open("forgone:1")
    await scene.store.extend([("gone:1", 0)])
    scene.clock.advance(2)
    charge = (await scene.meters.leave("l4", "cut:1")).nusd
    cut = row("cut:1", 1_000, metered_nusd=charge)
    over = replace(cut, row_id="cut:1:overrun", kind=RowKind.OVERRUN, account=House.OVERRUN, metered_nusd=0)
    rows = (cut, replace(over, amount_nusd=charge - 1_000))
    await scene.store.settle(Settlement("cut:1", 1_000, rows, request("cut")))
    await scene.meters.leave("l4", "released:1")
    await scene.store.release("released:1")
    await scene.meters.leave("l4", "left:1")
    scene.clock.advance(40)
    assert sorted(await scene.store.expire()) == ["forgone:1", "gone:1", "left:1"]
    late = row("left:1", 500)
    await scene.store.settle(Settlement("left:1", 500, (late,)))
    await scene.open("open:1")
    await scene.open("charged:1")
    scene.clock.advance(1)
    await scene.meters.leave("l4", "charged:1")
    found = await scene.verify()
    assert found.problems == ()
    assert (found.open_holds, found.rows, found.waiting, found.poison) == (2, 10, 5, 0)
    await scene.drain()
    again = await scene.verify()
    assert (again.problems, again.rows, again.waiting, again.total_nusd) == ((), 10, 0, found.total_nusd)
    assert again.stream_id == found.stream_id


async def test_an_attempt_that_no_meter_can_speak_for_agrees(scene: Scene) -> None:
    """Estimated charges and attempts that ran while Redis was away are not held against the meter."""
    for hold_id, changes in (("a:1", {"estimated": True}), ("b:1", {"tags": (WITHOUT_STORE,)})):
        await scene.open(hold_id)
        scene.clock.advance(1)
        await scene.meters.leave("l4", hold_id)
        told = replace(row(hold_id, 77), **changes)
        await scene.store.settle(Settlement(hold_id, 77, (told,), request(told.request_id or "")))
    assert (await scene.verify()).problems == ()


async def test_what_comes_twice_is_counted_once(scene: Scene) -> None:
    """An entry that was delivered but not acknowledged is in the stream and in the database; it is one row."""
    await scene.serve("a:1")
    entries = await scene.stream.range("-", "+", 10)
    await scene.drain()
    for entry in entries:
        await scene.add_fields([word for pair in entry.fields.items() for word in pair])
    found = await scene.verify()
    assert (found.problems, found.rows, found.waiting) == ((), 1, 0)


async def test_what_happens_meanwhile_is_no_disagreement(scene: Scene) -> None:
    """While requests are served and two drainers drain, every look agrees."""
    stop = asyncio.Event()

    async def serve() -> None:
        for number in range(60):
            await scene.serve(f"x{number}:1", f"y{number}:1")
        stop.set()

    async def drain(name: str) -> None:
        drainer = scene.drainer(name, batch=3)
        while not stop.is_set():
            await drainer.step()

    async def look() -> list[Verification]:
        seen = []
        while not stop.is_set():
            seen.append(await scene.verify())
        return seen

    *_, seen = await asyncio.gather(serve(), drain("a"), drain("b"), look())
    assert [problem for each in seen for problem in each.problems] == []
    assert len({each.stream_id for each in seen}) > 1


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (
            "UPDATE ledger_rows SET amount_nusd = amount_nusd - 1, metered_nusd = metered_nusd - 1 WHERE attempt = 1",
            "tenant acme: its ledger rows are $0.000999999, its budgets say $0.001000000",
        ),
        ("DELETE FROM ledger_rows WHERE attempt = 1", "tenant acme: its ledger rows are $0.000000000"),
        ("UPDATE ledger_rows SET metered_nusd = 5 WHERE attempt = 1", "pool l4: its meter charged $0.001000000"),
        ("UPDATE ledger_rows SET pool = 'a10' WHERE attempt = 1", "pool a10: its meter charged $0.000000000"),
        ("UPDATE ledger_rows SET tenant = 'globex' WHERE attempt = 1", "row a:1:attempt: paid by acme"),
        ("UPDATE ledger_rows SET amount_nusd = 1 WHERE kind = 'idle'", "pool l4: its meter wrote $0.006000000 of idle"),
        ("UPDATE ledger_rows SET pool = 'x' WHERE kind = 'boot'", "pool x: its ledger rows say $0.003000000 of boot"),
        (
            "UPDATE ledger_hours SET amount_nusd = 1 WHERE kind = 'idle'",
            "hour 2026-01-01T00:00Z: 2 sums in ledger_hours",
        ),
        ("DELETE FROM request_hours", "hour 2026-01-01T00:00Z: 1 sums in request_hours are not those of requests"),
        ("DELETE FROM requests", "hour 2026-01-01T00:00Z: 1 sums in request_hours"),
        ("UPDATE ledger_rows SET request_id = 'b' WHERE attempt = 1", "request a was served, and no row says"),
        ("UPDATE ledger_rows SET attempt = 2 WHERE attempt = 1", "request a: 1 attempts are numbered 2 to 2"),
    ],
)
async def test_each_disagreement_in_the_database_is_named(scene: Scene, tampering: str, problem: str) -> None:
    """Changing one thing in PostgreSQL is found, and the message says whose it is and by how much."""
    await scene.serve("a:1")
    await scene.house()
    await scene.drain()
    assert (await scene.verify()).problems == ()
    scene.query(tampering)
    found = await scene.verify()
    assert not found.agrees
    assert any(each.startswith(problem) for each in found.problems), found.problems


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (
            ["HINCRBY", "totals", "tenant:acme", "5"],
            "tenant acme: its ledger rows are $0.001000000, its budgets say $0.001000005",
        ),
        (["HSET", "totals", "tenant:ghost", "5"], "tenant ghost: its ledger rows are $0.000000000"),
        (["HINCRBY", "meter:l4", "total:charged", "7"], "pool l4: its meter charged $0.001000007"),
        (["HINCRBY", "meter:l4", "total:boot", "7"], "pool l4: its meter wrote $0.003000007 of boot time"),
        (
            ["HSET", "held:tenant:acme", "1", "9"],
            "tenant:acme: its open holds are $0.010000000, its budgets hold $0.010000009",
        ),
        (["HSET", "held:pool:other", "1", "9"], "pool:other: its open holds are $0.000000000, its budgets hold"),
        (
            ["HSET", "hold:o:1", "amount", "4"],
            "pool:l4: its open holds are $0.000000004, its budgets hold $0.010000000",
        ),
        (["HSET", "inflight", "tenant:acme", "3"], "tenant:acme: 1 holds are open, 3 are counted as in flight"),
        (["ZREM", "leases", "o:1"], "hold o:1 over $0.010000000 is open and has no lease"),
        (["ZADD", "leases", "1", "o:1"], "hold o:1 over $0.010000000 is open 1767225"),
        (["DEL", "hold:o:1"], "pool:l4: its open holds are $0.000000000, its budgets hold $0.010000000"),
        (["XADD", "rows", "*", "k", "nonsense"], "entry "),
    ],
)
async def test_each_disagreement_in_redis_is_named(scene: Scene, command: list[str], problem: str) -> None:
    """Changing one thing in Redis is found, and the message says whose it is and by how much."""
    await scene.serve("a:1")
    await scene.house()
    await scene.open("o:1")
    await scene.drain()
    assert (await scene.verify()).problems == ()
    await scene.client.command(command[0], scene.key(command[1]), *command[2:])
    found = await scene.verify()
    assert any(each.startswith(problem) for each in found.problems), found.problems


async def test_a_hold_that_is_open_beside_its_row_is_named(scene: Scene) -> None:
    """No hold ends twice: a row of its attempt says that it has ended."""
    await scene.open("o:1")
    await scene.add(row("o:1", 0))
    assert "hold o:1 is open although row o:1:attempt ended it" in (await scene.verify()).problems


async def test_an_entry_that_is_lost_on_its_way_is_missed(scene: Scene) -> None:
    """What was deleted from the stream before it was drained is named by tenant, pool and amount."""
    await scene.serve("a:1")
    await scene.client.command("XTRIM", scene.key("rows"), "MAXLEN", 0)
    found = await scene.verify()
    assert found.problems == (
        "tenant acme: its ledger rows are $0.000000000, its budgets say $0.001000000",
        "pool l4: its meter charged $0.001000000, its ledger rows say $0.000000000",
    )


async def test_poison_is_named_and_not_counted(scene: Scene) -> None:
    """An entry that was set aside is a disagreement of its own, beside the amount that is missing because of it."""
    scene.query("ALTER TABLE ledger_rows ADD CONSTRAINT small CHECK (amount_nusd < 100)")
    await scene.serve("a:1")
    await scene.drain()
    found = await scene.verify()
    assert found.poison == 1
    assert "was set aside as" in found.problems[0]
    assert "CheckViolation (SQLSTATE 23514); `sluice ledger poison` shows it and puts it back" in found.problems[0]
    assert found.problems[1].startswith("tenant acme: its ledger rows are $0.000000000")


async def test_reconciliations_are_no_meter_s(scene: Scene) -> None:
    """Rows that bring the ledger to a bill are written past Redis, and neither meters nor budgets miss anything."""
    await scene.serve("a:1")
    await scene.house()
    await scene.drain()
    made = house_row("reconcile:l4:1970-01-01T00Z:gpu", RowKind.ADJUSTMENT, 77, scene.clock.wall_us())
    await asyncio.to_thread(write_rows, scene.url, [replace(made, outcome=f"{RECONCILED}gpu", metered_nusd=99)])
    found = await scene.verify()
    assert found.problems == ()
    assert ("reconcile:l4:1970-01-01T00Z:gpu", 77) in scene.rows()


async def test_other_pools_and_tenants_are_named_apart(scene: Scene) -> None:
    """The right tenant is named, not every one."""
    await scene.serve("a:1")
    await scene.open("g:1", 1_000, POOL)
    await scene.add(row("z:1", 9, "zed"), request=request("z", "zed"))
    problems = (await scene.verify()).problems
    assert [each for each in problems if each.startswith("tenant")] == [
        "tenant zed: its ledger rows are $0.000000009, its budgets say $0.000000000"
    ]
