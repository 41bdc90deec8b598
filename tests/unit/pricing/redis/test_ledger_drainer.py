"""The drainer writes each row once, sets aside what cannot be written, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest

from pricing.errors import StoreUnavailable
from pricing.ledger.entries import rows_entry, value_json
from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import find_request
from pricing.ledger.rows import House, LedgerRow
from pricing.redis.drainer import Drainer
from pricing.redis.stream import GROUP
from support.money import request, row
from support.shared_ledger import SharedLedger, shared_ledger, sum_problems
from support.values import replace

HOUR = 3_600_000_000
INCOMPRESSIBLE = "".join(map(str, range(10_000)))  # too long for an index


@pytest.fixture
async def ledger(redis_url: str, postgres_url: str) -> AsyncIterator[SharedLedger]:
    async with shared_ledger(redis_url, postgres_url) as made:
        yield made


async def test_what_was_settled_is_in_the_database_and_nowhere_else(ledger: SharedLedger) -> None:
    """Rows and summaries arrive as they were, with the id of their entry, and the stream is empty behind them."""
    paid, summary = row("a:1", 700, tags=("x",), at_us=5 * HOUR), request("a", tags=("x",), at_us=5 * HOUR)
    entry_id = await ledger.add(paid, request=summary)
    drainer = ledger.drainer()
    assert await drainer.step() == 1
    found = find_request(ledger.url, "a")
    assert found is not None
    assert (found.rows, found.summary) == ((paid,), summary)
    [(ms, n)] = ledger.query("SELECT stream_ms, stream_n FROM ledger_rows")
    assert f"{ms}-{n}".encode() == entry_id
    backlog = await ledger.stream.backlog()
    assert (backlog.entries, backlog.bytes, backlog.oldest_s, backlog.poison) == (0, 0, None, 0)
    assert sum_problems(ledger.url) == []


async def test_an_expired_hold_is_written_as_its_script_says(ledger: SharedLedger) -> None:
    """A template with its amounts filled in is a row like any other."""
    words = [b"k", b"filled", b"row", value_json(row("a:1", 0)), b"amount", b"900", b"metered", b"900", b"at", b"77"]
    await ledger.add_fields([*words, b"estimated", b"1"])
    await ledger.drain()
    assert ledger.query("SELECT row_id, amount_nusd, at_us, estimated FROM ledger_rows") == [
        ("a:1:attempt", 900, 77, True)
    ]


async def test_a_row_that_comes_again_changes_nothing(ledger: SharedLedger) -> None:
    """Row ids make delivery exactly once: neither rows nor sums by hour see the second copy, in one batch or in two."""
    drainer = ledger.drainer()
    for _ in range(2):
        await ledger.add(row("a:1", 700), request=request("a"))
        await ledger.add(row("a:1", 700), row("a:2", 5), request=request("a"))
        await ledger.drain(drainer)
    assert ledger.rows() == [("a:1:attempt", 700), ("a:2:attempt", 5)]
    assert ledger.query("SELECT sum(amount_nusd), sum(row_count) FROM ledger_hours") == [(705, 2)]
    assert (drainer.drained.entries, drainer.drained.rows, drainer.drained.duplicates) == (4, 2, 4)


async def test_who_listens_hears_of_a_row_once(ledger: SharedLedger) -> None:
    """What is written is told as it was; a batch that had come before, or in part, is not told again."""
    drainer = ledger.drainer()
    told: list[LedgerRow] = []
    drainer.on_rows = told.extend
    for rows in (
        [row("a:1", 700), row("a:2", 5)],
        [row("a:1", 700)],
        [row("a:1", 700), row("a:3", 1)],
        [row("a:4", 9)],
    ):
        await ledger.add(*rows)
        await ledger.drain(drainer)
    assert told == [row("a:1", 700), row("a:2", 5), row("a:4", 9)]


async def test_what_was_inserted_but_not_acknowledged_is_taken_up_again(ledger: SharedLedger) -> None:
    """A drainer that died between commit and acknowledgement leaves an entry that another finds, writes again and
    deletes, once it has lain long enough.
    """
    await ledger.add(row("a:1", 700))
    await ledger.stream.join()
    [entry] = await ledger.stream.read("dead", 10)
    assert await ledger.drainer("b", claim_after_s=60).step() == 0
    assert await ledger.drainer("c", claim_after_s=0).step() == 1
    assert ledger.rows() == [("a:1:attempt", 700)]
    assert await ledger.stream.range("-", "+", 10) == []
    assert entry.place[0] > 0


async def test_a_drainer_that_starts_again_goes_on_with_its_own(ledger: SharedLedger) -> None:
    """The same name after a restart means the same entries: they need not lie for a while first."""
    await ledger.add(row("a:1", 700))
    await ledger.stream.join()
    await ledger.stream.read("a", 10)
    assert await ledger.drainer("a").step() == 1
    assert ledger.rows() == [("a:1:attempt", 700)]


async def test_entries_that_no_consumer_has_are_found(ledger: SharedLedger) -> None:
    """Whatever lies in the stream is written: deleting a consumer with its entries loses none."""
    for number in range(25):
        await ledger.add(row(f"a{number:02}:1", number))
    await ledger.stream.join()
    await ledger.stream.read("dead", 25)
    await ledger.client.command("XGROUP", "DELCONSUMER", ledger.key("rows"), GROUP, "dead")
    drainer = ledger.drainer("b")
    while await drainer.step():
        ledger.clock.advance(61)
    assert len(ledger.rows()) == 25


async def test_consumers_that_are_long_gone_are_forgotten(ledger: SharedLedger) -> None:
    """Replicas come and go with names of their own; those that left nothing behind do not add up."""
    await ledger.drain(ledger.drainer("old"))
    await ledger.add(row("a:1", 1))
    await ledger.stream.join()
    await ledger.stream.read("owes", 1)
    await ledger.stream._eval("sweep", GROUP, "new", -1, 10)
    consumers = await ledger.client.command("XINFO", "CONSUMERS", ledger.key("rows"), GROUP)
    assert [dict(zip(each[::2], each[1::2], strict=True))[b"name"] for each in consumers] == [b"owes"]


async def test_two_drainers_share_the_work(ledger: SharedLedger) -> None:
    """Both write at the same time, each row once."""
    for number in range(200):
        await ledger.add(row(f"a{number:03}:1", number, at_us=number * HOUR // 7), request=request(f"a{number}"))
    await asyncio.gather(*(ledger.drain(ledger.drainer(name)) for name in "ab"))
    assert ledger.rows() == [(f"a{number:03}:1:attempt", number) for number in range(200)]
    assert sum_problems(ledger.url) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([b"k", b"other"], "field k is not one of rows, filled"),
        ([b"k", b"rows", b"rows", b"["], "field rows: Input data was truncated"),
        (rows_entry([row("b:1", 2**63)]), "NumericValueOutOfRange (SQLSTATE 22003)"),
        (rows_entry([row("b:1", 1, attempt=2**31)]), "NumericValueOutOfRange (SQLSTATE 22003)"),
        (rows_entry([replace(row("b:1", 1), request_id=INCOMPRESSIBLE)]), "ProgramLimitExceeded (SQLSTATE 54000)"),
    ],
)
async def test_poison_is_set_aside_with_its_reason(ledger: SharedLedger, words: list[bytes], why: str) -> None:
    """One entry that cannot be written, in the midst of others: they are written, it is kept, and nobody is stopped."""
    for number in range(3):
        await ledger.add(row(f"a{number}:1", number))
    await ledger.add_fields(words)
    await ledger.add(row("a3:1", 3))
    drainer = ledger.drainer()
    await ledger.drain(drainer)
    assert [amount for _, amount in ledger.rows()] == [0, 1, 2, 3]
    [kept] = await ledger.poison()
    assert kept.fields[b"why"].decode() == why
    backlog = await ledger.stream.backlog()
    assert (backlog.entries, backlog.bytes, backlog.poison, drainer.drained.poison) == (0, 0, 1, 1)
    assert sum_problems(ledger.url) == []


async def test_poison_can_be_put_back(ledger: SharedLedger) -> None:
    """Once the cause is gone, what was set aside is written as if nothing had happened."""
    ledger.query("ALTER TABLE ledger_rows ADD CONSTRAINT small CHECK (amount_nusd < 100)")
    await ledger.add(row("a:1", 700), request=request("a"))
    await ledger.drain()
    [kept] = await ledger.poison()
    assert kept.fields[b"why"] == b"CheckViolation (SQLSTATE 23514)"
    ledger.query("ALTER TABLE ledger_rows DROP CONSTRAINT small")
    assert await ledger.stream.put_back([kept.id, b"1-1"]) == 1
    assert (await ledger.stream.backlog()).bytes == sum(map(len, rows_entry([row("a:1", 700)], request("a"))))
    await ledger.drain()
    assert (ledger.rows(), await ledger.poison()) == ([("a:1:attempt", 700)], [])
    assert (await ledger.stream.backlog()).bytes == 0


async def test_characters_that_postgresql_has_not_are_replaced(ledger: SharedLedger) -> None:
    """A client may name a model with a NUL in it; that stops no row of money."""
    await ledger.add(row("a:1", 1, tags=("x\0",)), request=request("a", model_asked="m\0\\u0000"))
    await ledger.drain()
    found = find_request(ledger.url, "a")
    assert found is not None
    assert (found.summary.model_asked, found.rows[0].tags) == ("m\ufffd\\u0000", ("x\ufffd",))


async def test_without_a_database_entries_wait(ledger: SharedLedger) -> None:
    """Nothing is lost or acknowledged while PostgreSQL is away; the backlog says how much waits and since when."""
    await ledger.add(row("a:1", 700))
    away = Drainer(
        ledger.client,
        PostgresUrl("postgresql://nobody@127.0.0.1:1/none"),
        ledger.clock,
        consumer="a",
        namespace=ledger.namespace,
    )
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"ledger postgresql://127\.0\.0\.1:1/none: "):
            await away.step()
    backlog = await ledger.stream.backlog()
    assert backlog.entries == 1
    assert backlog.bytes == sum(map(len, rows_entry([row("a:1", 700)])))
    assert backlog.oldest_s is not None
    await ledger.drain(ledger.drainer("a"))
    assert ledger.rows() == [("a:1:attempt", 700)]


async def test_a_drainer_that_cannot_write_keeps_nothing_from_those_that_can(ledger: SharedLedger) -> None:
    """It goes on trying with its batch, without renewing its claim: another takes it over, and nothing comes twice."""
    user = f"poor_{uuid.uuid4().hex[:8]}"
    ledger.query(f"CREATE ROLE {user} LOGIN")
    barred = Drainer(
        ledger.client,
        PostgresUrl(ledger.url.dsn.replace("sluice@", f"{user}@")),
        ledger.clock,
        consumer="barred",
        namespace=ledger.namespace,
    )
    able = ledger.drainer("able", claim_after_s=0.05)
    await ledger.add(row("a:1", 700))
    done = 0
    while not done:
        with pytest.raises(StoreUnavailable, match="permission denied"):
            await barred.step()
        ledger.clock.advance(1)
        done = await able.step()
    assert ledger.rows() == [("a:1:attempt", 700)]
    ledger.query(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}")
    ledger.query(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {user}")
    assert await barred.step() == 1
    await barred.aclose()
    assert (await ledger.stream.backlog()).bytes == 0
    assert ledger.query("SELECT sum(row_count) FROM ledger_hours") == [(1,)]


async def test_a_running_drainer_tells_when_it_cannot_and_when_it_can_again(ledger: SharedLedger) -> None:
    """It goes on by itself once the tables are of its version again, and says each change once."""
    ((version,),) = ledger.query("SELECT version_num FROM alembic_version")
    ledger.query("UPDATE alembic_version SET version_num = '9999'")
    await ledger.add(row("a:1", 700))
    told: list[str | None] = []
    stopped, going = asyncio.Event(), asyncio.Event()

    def note(problem: str | None) -> None:
        told.append(problem)
        (going if problem is None else stopped).set()

    running = asyncio.create_task(ledger.drainer(on_problem=note).run())
    await stopped.wait()
    ledger.query("UPDATE alembic_version SET version_num = '" + version + "'")
    await going.wait()
    running.cancel()
    assert told[0] is not None
    assert f"tables of version 9999, this program writes version {version}; upgrade sluice" in told[0]
    assert told[1:] == [None]
    assert ledger.rows() == [("a:1:attempt", 700)]


async def test_a_redis_that_lost_its_data_is_joined_anew(ledger: SharedLedger) -> None:
    """The group is made again where it is gone; a step fails once and the next goes on."""
    drainer = ledger.drainer()
    await ledger.drain(drainer)
    await ledger.client.command("DEL", ledger.key("rows"))
    await ledger.add(row("a:1", 700))
    with pytest.raises(Exception, match="NOGROUP"):
        await drainer.step()
    await ledger.drain(drainer)
    assert ledger.rows() == [("a:1:attempt", 700)]


async def test_a_session_that_was_cut_is_made_anew(ledger: SharedLedger, postgres_url: str) -> None:
    """PostgreSQL ending the connection fails one step; the entries are written by the next."""
    drainer = ledger.drainer()
    await ledger.add(row("a:1", 1))
    await ledger.drain(drainer)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    await ledger.add(row("b:1", 2, House.FAILED))
    with pytest.raises(StoreUnavailable):
        await drainer.step()
    await ledger.drain(drainer)
    assert ledger.rows() == [("a:1:attempt", 1), ("b:1:attempt", 2)]
