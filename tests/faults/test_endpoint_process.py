"""Invariant 6 for the whole endpoint: a `sluice serve` of its own is killed and stopped under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from pricing.clock import SystemClock
from pricing.ledger.read import find_request, reading, recent_rows
from pricing.ledger.rows import RowKind
from pricing.verify.sqlite import verify
from router.demo.processes import Child
from support.endpoint import ASK, CHAT, KEYS, one_pool
from support.ledgers import recent_requests

CLIENTS = 6
FILES = one_pool(
    defaults={"hold_lease_s": 4, "hold_tick_s": 1, "first_token_timeout_s": 600, "stall_timeout_s": 600},
    caps=[{"name": "day", "amount_usd": 50, "window": "24h", "scope": "tenant:acme"}],
)
BODY = {"model": "chat", "messages": ASK}
TOKENS = (1_200, *[30] * (CLIENTS - 1))  # one client's answer is still on its way when the endpoint goes


@contextlib.asynccontextmanager
async def serve(folder: Path, *more: str) -> AsyncIterator[Child]:
    """`sluice serve --simulate`, ten times as fast as life, on the folder's policy and ledger."""
    (folder / "policy.yaml").write_text(json.dumps(FILES), encoding="utf-8")
    where = ["--policy", str(folder / "policy.yaml"), "--ledger", str(folder / "ledger.sqlite"), "--port", "0"]
    child = await Child.start(
        "serve", [*where, "--simulate", "--speedup", "10", "--log-level", "warning", *more], folder
    )
    try:
        yield child
    finally:
        await child.kill()


class Load:
    """Clients that ask again and again, and note what they were told of answers that came whole."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: dict[str, int] = {}  # request id -> nano-dollars
        self.statuses: list[int] = []
        self.enough = asyncio.Event()

    async def run(self, number: int) -> None:
        """Until the endpoint is gone. Every second client streams."""
        streamed = number % 2 == 0
        size = {"max_tokens": TOKENS[number], "sim_output_tokens": TOKENS[number]}
        headers = {"Authorization": f"Bearer {KEYS['acme']}"}
        more = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        async with aiohttp.ClientSession(self.url, headers=headers) as session:
            with contextlib.suppress(aiohttp.ClientError):
                while True:
                    async with session.post(CHAT, json={**BODY, **size, **more}) as reply:
                        self.note(reply, await reply.read(), streamed)

    def note(self, reply: aiohttp.ClientResponse, body: bytes, streamed: bool) -> None:
        self.statuses.append(reply.status)
        if reply.status != 200 or (streamed and not body.endswith(b"data: [DONE]\n\n")):
            return
        usage = json.loads(body.split(b"data: ")[-2] if streamed else body)["usage"]
        self.told[reply.headers["x-sluice-request-id"]] = round(usage["cost"] * 10**9)
        if len(self.told) >= 3 * CLIENTS:
            self.enough.set()


@contextlib.asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """Runs clients until the endpoint is gone, which must happen inside."""
    load = Load(url)
    clients = [asyncio.create_task(load.run(number)) for number in range(CLIENTS)]
    async with asyncio.timeout(60):
        await load.enough.wait()
    yield load
    async with asyncio.timeout(60):
        await asyncio.gather(*clients)


def open_holds(ledger: Path) -> int:
    with reading(ledger) as connection:
        [count] = connection.execute("SELECT count(*) FROM holds").fetchone()
    return int(count)


async def test_kill_9_under_load_loses_no_charge_that_a_client_was_told(tmp_path: Path) -> None:
    """What clients were told is in the ledger to the nano-dollar; holds end with their leases after a restart."""
    ledger = tmp_path / "ledger.sqlite"
    async with serve(tmp_path) as child, under_load(child.url) as load:
        await child.kill()
    for request_id, told_nusd in load.told.items():
        stored = find_request(ledger, request_id)
        assert stored is not None
        assert sum(row.amount_nusd for row in stored.rows if row.account == "acme") == told_nusd
    left = open_holds(ledger)
    assert 0 < left <= CLIENTS

    async with serve(tmp_path) as child:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(expired, ledger) < left:
                pass
        await child.stop()
    books = verify(ledger, SystemClock().wall_us())
    assert books.problems == ()
    assert (books.open_holds, expired(ledger)) == (0, left)


def expired(ledger: Path) -> int:
    """Rows of holds that nobody ended: the hold's amount, marked as an estimate."""
    rows = recent_rows(ledger, 100_000)
    return sum(row.outcome == "expired" and row.estimated for row in rows)


async def test_a_stop_signal_under_load_settles_everything(tmp_path: Path) -> None:
    """SIGTERM: what runs is finished, clients get answers or a 503, the process ends with 0, the books agree."""
    ledger = tmp_path / "ledger.sqlite"
    async with serve(tmp_path) as child, under_load(child.url) as load:
        await child.stop()
    assert set(load.statuses) <= {200, 503}
    books = verify(ledger, SystemClock().wall_us())
    assert books.problems == ()
    assert books.open_holds == 0
    served = [one for one in recent_requests(ledger, 100_000) if one.outcome == "served"]
    assert {one.request_id for one in served} == set(load.told)
    kinds = {row.kind for row in recent_rows(ledger, 100_000)}
    assert {RowKind.ATTEMPT, RowKind.BOOT, RowKind.IDLE} <= kinds


async def test_a_stop_signal_ends_streams_that_outlast_the_grace_time(tmp_path: Path) -> None:
    """SIGTERM under streams of minutes: each gets its words, then an error event, no `[DONE]`; the house pays, and the
    process ends with 0 and with every hold settled.
    """
    ledger = tmp_path / "ledger.sqlite"
    headers = {"Authorization": f"Bearer {KEYS['acme']}"}
    body = {**BODY, "stream": True, "max_tokens": 4_000, "sim_output_tokens": 4_000}
    async with (
        serve(tmp_path, "--grace-s", "0.2") as child,
        aiohttp.ClientSession(child.url, headers=headers) as session,
    ):
        replies = [await session.post(CHAT, json=body) for _ in range(CLIENTS)]
        for reply in replies:
            await reply.content.readuntil(b"\n\n")
        await child.stop()
        endings = [(await reply.read()).rstrip().rsplit(b"data: ", 1)[-1] for reply in replies]
    assert [json.loads(ending)["error"]["code"] for ending in endings] == ["shutting_down"] * CLIENTS
    books = verify(ledger, SystemClock().wall_us())
    assert (books.problems, books.open_holds) == ((), 0)
    assert [one.outcome for one in recent_requests(ledger, 100)] == ["broken"] * CLIENTS
    attempts = [row for row in recent_rows(ledger, 100) if row.kind is RowKind.ATTEMPT]
    assert {(row.outcome, row.account) for row in attempts} == {("shutdown", "__failed__")}
    assert all(row.amount_nusd > 0 and row.completion_tokens for row in attempts)
