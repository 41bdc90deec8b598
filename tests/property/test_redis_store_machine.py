"""Invariants 1, 2 and 6 on the Redis store: replicas that share it, die, and lose answers, under any sequence of steps.

Time is the server's, never runs backwards and never stops: behind the latest time that was seen, a clock says only how
much time passes, and of a step at most ten seconds. So a jump forward ends leases early and a jump back ends none.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.store import CapStatus, Extended, OpenHold
from pricing.budgets.windows import BUCKET_US, month_around
from pricing.errors import BudgetExceeded, HoldEnded, StoreUnavailable
from pricing.ledger.rows import RowKind
from pricing.redis.store import RedisStore
from support.budget_machine import ZONE, BudgetMachine, scope_sets
from support.money import caps, paid, wish
from support.real_redis import RedisServer
from support.stores import RedisBackend
from support.unsteady_client import Cut

REPLICAS = 2
PASSES_US = 10 * 1_000_000
KEPT_US = 33 * 86_400 * 1_000_000
# A real server and what Hypothesis keeps of an example make shrinking take minutes; the steps are printed either way.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
cuts = st.sampled_from([None, None, Cut.UNSENT, Cut.UNHEARD])


class RedisMachine(BudgetMachine):
    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.backend = RedisBackend(self.server)
        self.table = caps(zone=ZONE)
        self.latest_us = self.shown_us = self.clock.wall_us()
        self.owners: dict[str, RedisStore] = {}
        self.unheard: set[str] = set()  # holds with which no step was taken since they were opened
        self.started = 0
        self.replicas = [self.start() for _ in range(REPLICAS)]
        self.next = 0
        self.wait(self.turn().check())

    def start(self) -> RedisStore:
        self.started += 1
        backend, self.backend.replica = self.backend, f"r{self.started}"
        return self.wait(backend.start(self.clock, self.table, lambda _: None))

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        for store in self.replicas:
            self.wait(self.backend.stop(store))
        self.loop.close()
        keys = self.server.command("KEYS", self.backend.key("*"))
        if keys:
            self.server.command("DEL", *keys)

    @invariant()
    def ledger_and_budgets_are_the_same_money(self) -> None:
        """Each tenant's rows are what its budget says it spent and what was spent; each hold has one row of money."""
        spent = Counter[str]()
        for each in self.ended:
            spent[each.scopes[0].value] += each.amount
        rows = [each for each in self.backend.rows() if each.kind is RowKind.ATTEMPT]
        charged = Counter[str]()
        for each in rows:
            charged[each.account] += each.amount_nusd
        assert +charged == +spent
        assert {name: int(total) for name, total in self.hash("totals").items()} == {
            f"tenant:{name}": total for name, total in (+spent).items()
        }
        assert len(rows) == len(self.ended) - self.released

    @invariant()
    def nothing_is_left_of_holds_that_ended(self) -> None:
        """Keys of holds, leases and requests in flight are those of the holds that are open."""
        leases = self.server.command("ZRANGE", self.backend.key("leases"), 0, -1)
        assert {each.decode() for each in leases} == self.open_holds.keys()
        holds = self.server.command("KEYS", self.backend.key("hold:*"))
        assert len(holds) == len(self.open_holds)
        in_flight = Counter(str(held.scopes[0]) for held in self.open_holds.values())
        assert {name: int(count) for name, count in self.hash("inflight").items()} == in_flight
        held = Counter[Scope]()
        for each in self.open_holds.values():
            held.update(dict.fromkeys(each.scopes, each.amount))
        for scope in {scope for each in (*self.ended, *self.open_holds.values()) for scope in each.scopes}:
            assert sum(int(amount) for amount in self.hash(f"held:{scope}").values()) == held[scope]

    def hash(self, key: str) -> dict[str, str]:
        flat = [each.decode() for each in self.server.command("HGETALL", self.backend.key(key))]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    # The oracle's time, and what it must know of the store.

    def now_us(self) -> int:
        shown_us = self.clock.wall_us()
        passed_us = min(max(0, shown_us - self.shown_us), PASSES_US)
        self.latest_us, self.shown_us = max(shown_us, self.latest_us + passed_us), shown_us
        return self.latest_us

    def lease_now_us(self) -> int:
        return self.now_us()

    def usable(self) -> list[str]:
        return sorted(hold_id for hold_id in self.open_holds if self.owners[hold_id] in self.replicas)

    def never_ticked(self, hold_id: str) -> bool:
        return hold_id in self.unheard

    def orphans(self) -> list[str]:
        return sorted(hold_id for hold_id in self.open_holds if self.owners[hold_id] not in self.replicas)

    def fits(self, scopes: tuple[Scope, ...], anchor_us: int, more: int) -> bool:
        """A month of which the beginning is not kept any more has no room: nobody could tell."""
        if month_around(anchor_us, ZONE)[0] // BUCKET_US < (self.now_us() - KEPT_US) // BUCKET_US:
            for cap in self.caps:
                if cap.scope in scopes and cap.window.rolling_s is None and isinstance(cap.amount_nusd, int):
                    return False
        return super().fits(scopes, anchor_us, more)

    # Steps, each by the replica whose turn it is, or by the owner of the hold.

    def turn(self) -> RedisStore:
        self.next += 1
        return self.replicas[self.next % REPLICAS]

    def use_caps(self, table: CapTable) -> None:
        self.table = table
        for store in self.replicas:
            store.replace_caps(table)

    def try_open(self, wish: OpenHold) -> int:
        store = self.turn()
        hold = self.wait(self.again(store.open, wish))
        assert self.wait(store.open(wish)) == hold  # the same id again is the same hold
        self.opened_by(store, wish)
        return int(hold.anchor_us)

    def try_extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        self.unheard.difference_update(hold_id for hold_id, _ in wishes)
        answers: dict[str, Extended] = {}
        for store in self.replicas:
            asked = [each for each in wishes if self.owners.get(each[0]) is store]
            answers.update({each.hold_id: each for each in self.wait(self.again(store.extend, asked))})
        unknown = [each for each in wishes if each[0] not in answers]
        return [answers[hold_id] for hold_id, _ in wishes if hold_id in answers] + self.wait(
            self.turn().extend(unknown)
        )

    def try_settle(self, hold_id: str, amount: int, account: str, *, finish: bool) -> None:
        owner = self.owners[hold_id]
        store = owner if owner in self.replicas else self.turn()
        self.wait(self.again(store.settle, paid(hold_id, amount, account, may_exceed_hold=finish)))

    def try_release(self, hold_id: str) -> None:
        self.wait(self.again(self.owners[hold_id].release, hold_id))

    def try_expire(self) -> list[str]:
        return list(self.wait(self.turn().expire()))

    def statuses(self) -> list[CapStatus]:
        self.now_us()
        self.wait(self.turn().check())  # so that both have seen each instant, whatever there is to ask
        said = [self.wait(store.statuses()) for store in self.replicas]
        assert said[0] == said[1]  # whoever is asked
        return list(said[0])

    async def again(self, step: Any, *args: Any) -> Any:
        """A step that is repeated when its answer was lost."""
        try:
            return await step(*args)
        except StoreUnavailable:
            return await step(*args)

    # What else happens.

    @rule(scopes=scope_sets, amount=st.integers(0, 12), cut=st.sampled_from(Cut))
    def open_for_nobody(self, scopes: tuple[Scope, ...], amount: int, cut: Cut) -> None:
        """A caller that gives up when its answer is lost leaves no hold behind, whether or not one was opened."""
        store = self.turn()
        self.count += 1
        lost = wish(f"r{self.count}:1", amount, *scopes)
        self.backend.client(store).cut = cut
        with pytest.raises(StoreUnavailable):
            self.wait(store.open(lost))
        self.wait(store.aclose())  # what is finished in the background is finished
        with pytest.raises(HoldEnded, match="released"):
            self.wait(store.open(lost))

    @precondition(lambda self: self.usable())
    @rule(data=st.data(), permille=st.integers(0, 1000), cut=st.sampled_from(Cut))
    def settle_unheard(self, data: st.DataObject, permille: int, cut: Cut) -> None:
        """A settlement whose answer is lost is repeated and counts once; a second one is an error."""
        hold_id = data.draw(st.sampled_from(self.usable()))
        self.backend.client(self.owners[hold_id]).cut = cut
        self.settle(hold_id, self.open_holds[hold_id].amount * permille // 1000)

    @precondition(lambda self: self.usable())
    @rule(data=st.data(), wanted=st.integers(0, 30), cut=st.sampled_from(Cut))
    def extend_unheard(self, data: st.DataObject, wanted: int, cut: Cut) -> None:
        """An extension whose answer is lost is repeated and grows the hold once."""
        hold_id = data.draw(st.sampled_from(self.usable()))
        self.backend.client(self.owners[hold_id]).cut = cut
        [extended] = self.try_extend([(hold_id, wanted)])
        assert (extended.granted, extended.amount_nusd) == self.extended(hold_id, wanted)

    @precondition(lambda self: self.usable())
    @rule(data=st.data(), permille=st.integers(0, 1000), amount=st.integers(0, 12), cut=cuts)
    def settle_and_open(self, data: st.DataObject, permille: int, amount: int, cut: Cut | None) -> None:
        """One attempt ends and the next begins in one step, in the windows of the first; refused, the end stands."""
        hold_id = data.draw(st.sampled_from(self.usable()))
        held, store = self.open_holds[hold_id], self.owners[hold_id]
        spent = held.amount * permille // 1000
        settlement = paid(hold_id, spent, held.scopes[0].value)
        self.count += 1
        after = wish(f"r{self.count}:1", amount, *held.scopes, anchor_us=held.anchor_us)
        self.end(hold_id, spent)
        self.backend.client(store).cut = cut
        if not self.fits(held.scopes, held.anchor_us, amount):
            with pytest.raises(BudgetExceeded):
                self.wait(self.again(store.settle_and_open, settlement, after))
            return
        self.wait(self.again(store.settle_and_open, settlement, after))
        self.opened_by(store, after)
        self.granted(after, held.anchor_us)

    @precondition(lambda self: self.expired_ids)
    @rule(data=st.data())
    def settle_late(self, data: st.DataObject) -> None:
        """A settlement after expiry writes a row of amount 0 that says what the meter said."""
        hold_id = data.draw(st.sampled_from(self.expired_ids))
        self.try_settle(hold_id, 7, "acme", finish=False)
        late = [each for each in self.backend.rows() if each.row_id == f"{hold_id}:late"]
        assert [(each.kind, each.amount_nusd, each.metered_nusd) for each in late] == [(RowKind.LATE, 0, 7)]

    @rule(replica=st.integers(0, REPLICAS - 1))
    def replica_dies(self, replica: int) -> None:
        """Its holds stay until their leases end; another takes its place under a name of its own."""
        self.wait(self.backend.client(self.replicas[replica]).aclose())
        self.replicas[replica] = self.start()

    @precondition(lambda self: self.orphans())
    @rule(data=st.data())
    def touch_what_is_not_ones_own(self, data: st.DataObject) -> None:
        """Nobody else ends or grows a hold: it is said whose it is, and nothing changes."""
        hold_id = data.draw(st.sampled_from(self.orphans()))
        [extended] = self.wait(self.turn().extend([(hold_id, 30)]))
        assert (extended.granted, extended.amount_nusd) == (False, 0)
        with pytest.raises(HoldEnded, match="belongs to replica"):
            self.try_settle(hold_id, 0, "acme", finish=False)

    def settle(self, hold_id: str, amount: int) -> None:
        self.try_settle(hold_id, amount, self.open_holds[hold_id].scopes[0].value, finish=False)
        self.end(hold_id, amount)

    def opened_by(self, store: RedisStore, wish: OpenHold) -> None:
        self.owners[wish.hold_id] = store
        self.unheard.add(wish.hold_id)


def test_replicas_keep_the_invariants_over_any_sequence(redis_server: RedisServer) -> None:
    """Caps hold, every hold ends once and none outlives its lease, and rows and budgets are the same money."""
    RedisMachine.server = redis_server
    run_state_machine_as_test(
        RedisMachine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None, phases=NO_SHRINKING)
    )
