"""What only a store of several replicas must do: share, tell replicas apart, keep its limits, run side by side."""

import asyncio
import hashlib
from dataclasses import replace as changed
from zoneinfo import ZoneInfo

import pytest

from pricing.budgets.caps import Cap, CapTable, RateLimits, Scope, ScopeKind, parse_scope, parse_window
from pricing.budgets.store import MeterEntry, Settlement
from pricing.errors import BudgetExceeded, HoldEnded, RateLimited, StoreUnavailable
from pricing.ledger.rows import RowKind
from pricing.redis import scripts
from pricing.redis.keys import LAYOUT, prefix_of
from pricing.redis.meters import SharedMeters
from support.money import ACME, GLOBEX, POOL, UTC, cap, caps, house_row, paid, request, row, wish
from support.redis_replicas import TABLE, Replicas
from support.values import replace

LARGEST = 2**53 - 1


async def test_replicas_share_one_budget(replicas: Replicas) -> None:
    """What one holds the other cannot, and views follow once refreshed."""
    one, two = await replicas.start("one"), await replicas.start("two")
    await one.open(wish("a:1", 60))
    with pytest.raises(BudgetExceeded, match="acme/day"):
        await two.open(wish("b:1", 41))
    await one.settle(paid("a:1", 20))
    await two.refresh([ACME])
    assert two.room([ACME]).left_nusd == 80


async def test_many_replicas_at_once_never_pass_the_cap(replicas: Replicas) -> None:
    """Of sixty holds that three replicas want at once, each a tenth of the cap, ten are granted."""
    stores = [await replicas.start(f"r{number}") for number in range(3)]
    asked = [stores[n % 3].open(wish(f"r{n}:1", 10)) for n in range(60)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 10
    assert await replicas.spent(stores[0]) == [(0, 100), (0, 100), (0, 100)]


async def test_a_warning_is_sent_once_whichever_replica_comes_first(replicas: Replicas) -> None:
    """Two replicas spend past the threshold: one of them warns, until the window is over."""
    one, two = await replicas.start("one"), await replicas.start("two")
    for store, hold_id in ((one, "a:1"), (two, "b:1"), (one, "c:1")):
        await store.open(wish(hold_id, 30))
        await store.settle(paid(hold_id, 30))
    assert [(each.cap, each.spent_nusd) for each in replicas.warnings] == [("acme/day", 90)]


async def test_a_hold_is_its_replicas_own(replicas: Replicas) -> None:
    """Nobody else opens, grows or ends it; the error says whose it is, and nothing changes."""
    one, two = await replicas.start("one"), await replicas.start("two")
    await one.open(wish("a:1", 60))
    with pytest.raises(HoldEnded, match="belongs to replica one"):
        await two.settle(paid("a:1", 10))
    with pytest.raises(HoldEnded, match="belongs to replica one"):
        await two.release("a:1")
    with pytest.raises(HoldEnded, match="replica one's"):
        await two.open(wish("a:1", 10))
    [extended] = await two.extend([("a:1", 70)])
    assert (extended.granted, extended.why) == (False, "hold a:1 belongs to replica one, which alone may extend it")
    assert (await replicas.spent(one))[0] == (0, 60)


@pytest.mark.parametrize(("end", "word"), [("settle", "settled"), ("release", "released")])
async def test_the_error_says_how_a_hold_ended(replicas: Replicas, end: str, word: str) -> None:
    """A second end, and a second opening, say how the first went."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60))
    await (store.settle(paid("a:1", 10)) if end == "settle" else store.release("a:1"))
    with pytest.raises(HoldEnded, match=f"was {word} before"):
        await store.settle(paid("a:1", 10))
    with pytest.raises(HoldEnded, match=f"was {word}; every attempt"):
        await store.open(wish("a:1", 60))


async def test_a_hold_that_expired_is_not_opened_again(replicas: Replicas) -> None:
    """Whichever replica ends it, once; its row is filled in by the script, its id is used up."""
    one, two = await replicas.start("one"), await replicas.start("two")
    await one.open(wish("a:1", 60))
    await one.extend([("a:1", 60)])
    replicas.clock.advance(30)
    assert sorted([*await two.expire(), *await one.expire()]) == ["a:1"]
    [filled] = replicas.backend.rows()
    assert (filled.amount_nusd, filled.metered_nusd, filled.estimated) == (60, 60, True)
    assert filled.at_us == replicas.clock.wall_us()
    with pytest.raises(HoldEnded, match="was expired"):
        await one.open(wish("a:1", 60))


async def test_a_hold_without_a_row_expires_with_one_made_of_its_scopes(replicas: Replicas) -> None:
    """Money always has an account: the tenant of the scopes."""
    store = await replicas.start("one")
    await store.open(replace(wish("a:1", 60), on_expiry=None))
    await store.extend([("a:1", 60)])
    replicas.clock.advance(30)
    await store.expire()
    [filled] = replicas.backend.rows()
    assert (filled.account, filled.amount_nusd, filled.pool, filled.outcome) == ("acme", 60, "l4", "expired")


async def test_no_hold_opens_while_too_much_of_the_ledger_waits(replicas: Replicas) -> None:
    """At the byte limit holds are refused and the check fails; settlements and extensions go on."""
    store = await replicas.start("one", backlog_bytes=100)
    await store.check()
    await store.open(wish("a:1", 60))
    await store.record(request("other"))
    with pytest.raises(StoreUnavailable, match="wait in Redis"):
        await store.open(wish("b:1", 1))
    with pytest.raises(StoreUnavailable, match="wait in Redis"):
        await store.check()
    assert (await store.extend([("a:1", 70)]))[0].granted
    await store.settle(paid("a:1", 70))
    assert (await replicas.spent(store))[0] == (70, 0)


async def test_no_sum_passes_what_a_double_holds_exactly(replicas: Replicas) -> None:
    """Amounts up to 2^53 - 1 count to the last nano-dollar; whatever would pass it is refused and changes nothing."""
    store = await replicas.start("one", caps(cap(1, scope="pool:other")))
    await store.open(wish("a:1", LARGEST - 5, GLOBEX))
    for amount in (6, LARGEST, 2**60):
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            await store.open(wish(f"b{amount}:1", amount, GLOBEX))
    await store.open(wish("c:1", 5, GLOBEX))
    assert not (await store.extend([("c:1", 6)]))[0].granted
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await store.settle(paid("c:1", 6, "globex", may_exceed_hold=True))
    await store.settle(paid("a:1", LARGEST - 5, "globex"))
    store.replace_caps(caps(cap(LARGEST, scope="tenant:globex")))
    assert await replicas.spent(store) == [(LARGEST - 5, 5)]
    assert sum(each.amount_nusd for each in replicas.backend.rows()) == LARGEST - 5
    with pytest.raises(BudgetExceeded, match=r"0\.00 left"):  # a cap that is full is no store that is down
        await store.open(wish("d:1", 1, GLOBEX))


async def test_amounts_below_zero_are_refused_without_change(replicas: Replicas) -> None:
    """No step takes a negative amount."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60))
    with pytest.raises(ValueError, match="0 or more"):
        await store.open(wish("b:1", -1))
    with pytest.raises(ValueError, match="0 or more"):
        await store.settle(Settlement("a:1", -1, (row("a:1", -1),)))
    with pytest.raises(ValueError, match="0 or more"):
        await store.post([house_row("l4:boot", RowKind.BOOT, -1, 0)])
    assert (await replicas.spent(store))[0] == (0, 60)


async def test_time_never_runs_backwards(replicas: Replicas) -> None:
    """While the clock shows less than it once did, leases stand still; what was spent stays where it was."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60, lease_s=30))
    replicas.clock.jump_wall(-3_600)
    replicas.clock.advance(3_620)
    assert await store.expire() == []
    replicas.clock.advance(10)
    assert await store.expire() == ["a:1"]


async def test_months_that_a_replica_did_not_send_are_asked_for(replicas: Replicas) -> None:
    """A replica whose caps were packed long ago sends the months of the server's time and goes on."""
    store = await replicas.start("one", caps(cap(100, window="1mo"), zone=ZoneInfo("Europe/Berlin")))
    await store.open(wish("a:1", 60, lease_s=9_000_000.0))
    await store.settle(paid("a:1", 60))
    replicas.clock.advance(100 * 86_400)
    hold = await store.open(wish("b:1", 90))
    assert (hold.amount_nusd, hold.standing.left_nusd) == (90, 10)
    replicas.clock.advance(100 * 86_400)
    await store.settle(paid("b:1", 90))
    assert await replicas.spent(store) == [(0, 0)]


async def test_a_refusal_from_memory_says_when_there_is_room_again(replicas: Replicas) -> None:
    """Once refreshed, the view names the very instant that the script names."""
    store = await replicas.start("one")
    await store.open(wish("a:1", 60))
    replicas.clock.advance(3_600)
    await store.open(wish("b:1", 40))
    replicas.clock.advance(600)
    guessed = store.refusal([ACME], 50)
    await store.refresh([ACME])
    known = store.refusal([ACME], 50)
    with pytest.raises(BudgetExceeded) as told:
        await store.open(wish("c:1", 50))
    assert known is not None
    assert guessed is not None
    assert known.shortfall == told.value.shortfall
    assert guessed.shortfall.frees_at_us > (known.shortfall.frees_at_us or 0) > replicas.clock.wall_us()  # type: ignore[operator]


async def test_every_cap_of_a_large_installation_is_shown(replicas: Replicas) -> None:
    """Thirty thousand caps are read in batches, in the order of the files."""
    tenants = [Scope(ScopeKind.TENANT, f"t{number}") for number in range(10_000)]
    windows = [parse_window(text) for text in ("24h", "7d", "1mo")]
    table = tuple(Cap(window.text, tenant, 10**9, window) for tenant in tenants for window in windows)
    store = await replicas.start("one", CapTable(table, UTC))
    await store.open(wish("a:1", 7, tenants[-1]))
    statuses = await store.statuses()
    assert len(statuses) == 30_000
    assert [each.held_nusd for each in statuses[-4:]] == [0, 7, 7, 7]


async def test_rate_limits_are_shared(replicas: Replicas) -> None:
    """Requests, tokens and requests in flight are counted over all replicas; caps are asked first."""
    limits = {ACME: RateLimits(3, 100, 2)}
    one = await replicas.start("one", changed(TABLE, limits=limits))
    two = await replicas.start("two", changed(TABLE, limits=limits))
    await one.open(replace(wish("a:1", 10), tokens=60))
    with pytest.raises(RateLimited, match="tokens") as refused:
        await two.open(replace(wish("b:1", 10), tokens=41))
    assert refused.value.retry_after_s == 65.0
    await two.open(replace(wish("c:1", 10), tokens=40))
    with pytest.raises(RateLimited, match="in flight"):
        await one.open(replace(wish("d:1", 10), tokens=0))
    await two.settle(paid("c:1", 10, more_tokens=-30))
    last = await one.open(replace(wish("e:1", 10), tokens=30))
    assert last.standing.tokens is not None
    assert last.standing.tokens.remaining == 0
    with pytest.raises(BudgetExceeded):
        await two.open(wish("f:1", 100))


async def test_old_and_new_scripts_run_side_by_side(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    """During an upgrade two versions of every script work on the same keys."""
    old, new = await replicas.start("old"), await replicas.start("new")
    real = scripts.script

    def newer(name: str) -> scripts.Script:
        text = real(name).text + b"\n-- a newer version\n"
        return scripts.Script(name, text, hashlib.sha1(text).hexdigest().encode())

    await old.open(wish("a:1", 30))
    monkeypatch.setattr("pricing.redis.steps.script", newer)
    await new.open(wish("b:1", 30))
    assert (await new.extend([("b:1", 40)]))[0].granted
    monkeypatch.undo()
    assert not (await old.extend([("a:1", 70)]))[0].granted
    await old.settle(paid("a:1", 25))
    monkeypatch.setattr("pricing.redis.steps.script", newer)
    await new.settle(paid("b:1", 35))
    assert (await replicas.spent(new))[0] == (60, 0)


async def test_windows_go_on_from_week_to_week(replicas: Replicas) -> None:
    """Sums are the same in the week of the last step, in the next, and after weeks in which nobody asked."""
    store = await replicas.start("one", caps(cap(1_000, window="30d")))
    spent = []
    for number, idle_days in enumerate((0, 7, 16, 6, 2)):
        replicas.clock.advance(idle_days * 86_400)
        await store.open(wish(f"r{number}:1", 10))
        await store.settle(paid(f"r{number}:1", 10))
        spent.append((await replicas.spent(store))[0])
    assert spent == [(10, 0), (20, 0), (30, 0), (40, 0), (40, 0)]


@pytest.mark.parametrize(("layout", "remedy"), [(LAYOUT + 1, "newer version"), (LAYOUT - 1, "SLUICE_REDIS_NAMESPACE")])
async def test_keys_in_another_layout_are_left_alone(replicas: Replicas, layout: int, remedy: str) -> None:
    """A replica that knows another layout does not start, and says what to do."""
    await replicas.start("one")
    replicas.backend.server.command("SET", replicas.backend.key("layout"), layout)
    with pytest.raises(StoreUnavailable, match=remedy):
        await replicas.start("two")


async def test_names_that_no_key_may_hold_are_refused(replicas: Replicas) -> None:
    """Namespaces without braces and white space, replicas without white space."""
    for name in ("", "a b", "{a}", "a" * 101):
        with pytest.raises(ValueError, match="namespace"):
            prefix_of(name)
    with pytest.raises(ValueError, match="name of a replica"):
        await replicas.start("two words")


async def test_text_that_utf8_cannot_hold_and_long_names_are_scopes_like_others(replicas: Replicas) -> None:
    """Names of any length, and half of a surrogate pair in a tag, hold and spend."""
    long, broken = parse_scope("tenant:" + "x" * 300), Scope(ScopeKind.TAG, "half \ud83d")
    store = await replicas.start("one", caps(cap(100, scope=str(long))))
    await store.open(wish("a:1", 60, long, broken))
    await store.extend([("a:1", 60)])
    replicas.clock.advance(30)
    assert await store.expire() == ["a:1"]
    assert await replicas.spent(store) == [(60, 0)]


async def test_a_hold_enters_its_pools_meter_and_leaves_it_when_it_ends(replicas: Replicas) -> None:
    """In the script that opens it; and however it ends, no member stays behind."""
    store = await replicas.start("one")
    clock = replicas.clock
    meters = SharedMeters(replicas.backend.client(store), replicas.backend.namespace, "one", clock, now=clock.wall_us)
    meters.set_rate("l4", clock.wall_us(), 3_600_000_000, 4)
    await meters.send_words()
    for number in range(3):
        await store.open(replace(wish(f"a{number}:1", 10, lease_s=30), meter=MeterEntry("l4", 1, 500)))
    assert len(replicas.backend.server.command("HKEYS", replicas.backend.key("members:l4"))) == 3
    await store.settle(paid("a0:1", 10))
    await store.release("a1:1")
    replicas.clock.advance(30)
    assert await store.expire() == ["a2:1"]
    assert replicas.keys("members:l4") == []
    assert replicas.keys("hold:*") == []


async def test_a_tier_is_not_judged_from_an_old_view(replicas: Replicas) -> None:
    """What others spent, and what has left the window since, is known to be unknown until it is looked at; where no cap
    lowers a tier nobody need look.
    """
    table = caps(cap(100, lower_tier_permille=600), cap(150, scope="pool:l4"))
    one, two = await replicas.start("one", table), await replicas.start("two", table)
    assert [two.is_old([scope]) for scope in (ACME, POOL, GLOBEX)] == [True, False, False]
    await two.refresh([ACME])
    assert (two.is_old([ACME, POOL]), two.room([ACME]).lower_tier) == (False, False)
    await one.open(wish("a:1", 70))
    await one.settle(paid("a:1", 70))
    for lowers in (True, False):
        replicas.clock.advance(3)
        assert two.is_old([POOL, ACME])
        await two.refresh([ACME])
        assert (two.is_old([ACME]), two.room([ACME]).lower_tier) == (False, lowers)
        replicas.clock.advance(86_400 + 900)
    two.replace_caps(table)
    assert two.is_old([ACME])


async def test_the_time_is_the_server_s(replicas: Replicas) -> None:
    """Whatever a replica's own clock shows: as the last reply told it, and what has passed since."""
    ahead_us = 300 * 10**6
    store = await replicas.start("one", now=lambda: replicas.clock.wall_us() + ahead_us)
    await store.open(wish("a:1", 1))
    assert store.now_us() == replicas.clock.wall_us() + ahead_us
    replicas.clock.advance(7)
    assert store.now_us() == replicas.clock.wall_us() + ahead_us
    assert store.skew_s == 300
