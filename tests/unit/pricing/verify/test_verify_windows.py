"""Verifying holds each cap's present window against the rows that count in it, in a file and in Redis."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from pricing.budgets.caps import CapTable, Unlimited
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import BudgetStore, Settlement
from pricing.clock import ManualClock
from pricing.ledger.rows import House, RowKind
from pricing.redis.store import RedisStore
from pricing.redis.verify import verify_shared
from pricing.verify.sqlite import Verification, verify
from support.money import US, cap, caps, house_row, request, row, wish
from support.shared_ledger import SharedLedger, shared_ledger
from support.values import replace

DAY_S = 86_400
BUCKET_S = 900
SCOPES = ("tenant:acme", "key:k1", "class:chat", "tag:batch", "pool:l4", "endpoint:l4", "endpoint:/v1/chat/completions")
UNLIMITED = Unlimited.UNLIMITED
TABLE = caps(*(cap(UNLIMITED, window, scope, f"of-{window}") for scope in SCOPES for window in ("24h", "7d", "1mo")))


class Books(Protocol):
    """One store with its ledger, on a clock of the test's."""

    clock: ManualClock
    store: BudgetStore

    async def verify(self, table: CapTable = TABLE) -> Verification: ...

    async def shift(self, scope: str, at_us: int, nusd: int) -> None:
        """Falsify what a scope has spent in the bucket of an instant."""
        ...


class FileBooks:
    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path, self.clock = path, clock
        self.store = SqliteStore(path, clock, TABLE)

    async def verify(self, table: CapTable = TABLE) -> Verification:
        await self.store.check()
        return verify(self.path, self.clock.wall_us(), table)

    async def shift(self, scope: str, at_us: int, nusd: int) -> None:
        statement = "INSERT INTO spend VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET nusd = nusd + excluded.nusd"
        with sqlite3.connect(self.path) as connection:
            connection.execute(statement, [scope, at_us // (BUCKET_S * US), nusd])


class RedisBooks:
    def __init__(self, ledger: SharedLedger) -> None:
        self.ledger, self.clock = ledger, ledger.clock
        now = self.clock.wall_us
        self.store = RedisStore(ledger.client, self.clock, TABLE, replica="r1", namespace=ledger.namespace, now=now)

    async def verify(self, table: CapTable = TABLE) -> Verification:
        """Apart from pools: nothing here runs on a meter."""
        ledger = self.ledger
        found = await verify_shared(ledger.client, ledger.namespace, ledger.url, table, now_us=self.clock.wall_us())
        return replace(found, problems=tuple(each for each in found.problems if not each.startswith("pool ")))

    async def shift(self, scope: str, at_us: int, nusd: int) -> None:
        """As after an edit by hand: the windows that are kept beside the buckets are gone."""
        await self.ledger.client.command("HINCRBY", self.ledger.key(f"spent:{scope}"), at_us // (BUCKET_S * US), nusd)
        for weeks in range(3):
            await self.ledger.client.command("DEL", self.windows_key(weeks))

    def windows_key(self, weeks_ago: int) -> bytes:
        return self.ledger.key(f"windows:{self.clock.wall_us() // (7 * DAY_S * US) - weeks_ago}")


@pytest.fixture(params=["file", "redis"])
async def books(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Books]:
    """Empty ones."""
    if request.param == "file":
        in_file = FileBooks(tmp_path / "ledger.sqlite", ManualClock())
        yield in_file
        await in_file.store.aclose()
        return
    async with shared_ledger(*(request.getfixturevalue(name) for name in ("redis_url", "postgres_url"))) as ledger:
        yield RedisBooks(ledger)


async def serve(books: Books, name: str, nusd: int, seconds: float = 2, **more: Any) -> None:
    """A request of one attempt, which takes so long."""
    hold_id, began_us = f"{name}:1", books.clock.wall_us()
    paid = replace(row(hold_id, nusd, tags=("batch",)), duration_us=round(seconds * US), **more)
    await books.store.open(replace(wish(hold_id, nusd, *(each.scope for each in TABLE.caps[::3])), on_expiry=paid))
    books.clock.advance(seconds)
    summary = request(name, at_us=began_us, attempts=1)
    await books.store.settle(Settlement(hold_id, nusd, (replace(paid, at_us=books.clock.wall_us()),), summary))


async def everything(books: Books) -> None:
    """Days of requests, some over the edge of a bucket, boots and idle time, a hold that nobody ended, the house's."""
    for number in range(12):
        await serve(books, f"r{number}", 1_000 + number, seconds=20)
        boot = house_row(f"l4@{number}:0:boot", RowKind.BOOT, 70 + number, books.clock.wall_us())
        await books.store.post([boot])
        books.clock.advance(7 * 3_600 + 893)
    gone = wish("gone:1", 5_000, *(each.scope for each in TABLE.caps[::3]))
    await books.store.open(replace(gone, on_expiry=row("gone:1", 5_000, tags=("batch",), outcome="expired")))
    books.clock.advance(40)
    assert await books.store.expire() == ["gone:1"]
    failed = replace(row("failed:1", 44, House.FAILED), tenant="acme", at_us=books.clock.wall_us())
    await books.store.open(wish("failed:1", 44))
    await books.store.settle(Settlement("failed:1", 0, (failed,), request("failed", at_us=books.clock.wall_us())))


async def test_windows_agree_at_every_instant(books: Books) -> None:
    """Whatever windows roll over, and whichever month it is: rows that came are in those that they count in."""
    await everything(books)
    for hours in (0, 0.1, 1, 6.9, 7.01, 24, 24.25, 100, 24 * 8, 24 * 31):
        books.clock.advance(hours * 3_600)
        found = await books.verify()
        assert (found.problems, found.windows) == ((), len(TABLE.caps)), hours


async def test_a_request_at_the_edge_of_a_window_is_no_disagreement(books: Books) -> None:
    """Its hold began in the bucket before the one that its row says; the window begins between them."""
    books.clock.advance(BUCKET_S - books.clock.wall_us() / US % BUCKET_S - 5)
    await serve(books, "edge", 777, seconds=100)
    for step in range(6):
        books.clock.advance(DAY_S - 100 if step == 0 else 120)
        assert (await books.verify()).problems == ()


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_window_that_was_falsified_is_named(books: Books, scope: str) -> None:
    """A nano-dollar moved from now to before the window leaves every total as it was, and is found in that window."""
    await serve(books, "first", 800)
    books.clock.advance(3 * 3_600)
    await serve(books, "last", 900)
    now_us = books.clock.wall_us()
    assert (await books.verify()).problems == ()
    await books.shift(scope, now_us, -1)
    await books.shift(scope, now_us - 2 * DAY_S * US, 1)
    problems = (await books.verify()).problems
    label = TABLE.find(f"{scope.removeprefix('tenant:')}/of-24h")
    assert label is not None
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"cap {label.label}: since 20")
    assert "its window of 24h says $0.0000" in problems[0]


async def test_without_caps_no_window_is_looked_at(books: Books) -> None:
    """Totals are compared all the same."""
    await serve(books, "one", 10)
    await books.shift("tenant:acme", books.clock.wall_us(), 5)
    await books.shift("tenant:acme", books.clock.wall_us() - 2 * DAY_S * US, -5)
    assert (await books.verify(caps())).problems == ()


async def test_a_window_that_is_not_its_buckets_is_named(redis_url: str, postgres_url: str) -> None:
    """Redis keeps a window's sum beside the buckets; caps judge by it, so it is what is held against the rows."""
    async with shared_ledger(redis_url, postgres_url) as ledger:
        books = RedisBooks(ledger)
        await serve(books, "one", 1_000)
        key = books.windows_key(0)
        kept = bytes(await ledger.client.command("HGET", key, "tenant:acme"))
        windows = [list(each) for each in struct.iter_unpack("<5d", kept)]
        for window in windows:
            window[3] -= 100 if window[0] == DAY_S else 0
        await ledger.client.command("HSET", key, "tenant:acme", b"".join(struct.pack("<5d", *each) for each in windows))
        assert (await books.verify()).problems == (
            "cap acme/of-24h: its buckets are $0.000001000, its window of 24h says $0.000000900",
            "cap acme/of-24h: since 2025-12-31T00:00:00Z its ledger rows are $0.000001000, "
            "its window of 24h says $0.000000900",
        )


async def test_windows_are_read_beside_replicas_that_serve(redis_url: str, postgres_url: str) -> None:
    """What is settled between the windows and the rest counts as perhaps: no look finds a disagreement."""
    async with shared_ledger(redis_url, postgres_url) as ledger:
        books = RedisBooks(ledger)
        await serve(books, "before", 1_000)
        evalsha: Callable[..., Awaitable[Any]] = ledger.client.evalsha
        served = 0

        async def after_it(script: Any, *more: Any) -> Any:
            nonlocal served
            reply = await evalsha(script, *more)
            if script.name == "windows_seen":
                served += 1
                await serve(books, f"meanwhile{served}", 500)
            return reply

        ledger.client.evalsha = after_it  # type: ignore[method-assign] # between two steps of one look
        assert (await books.verify()).problems == ()
        assert served == 2
