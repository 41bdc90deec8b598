"""Clients that leave, at every moment of a request: the pool's work is cancelled at once, what was used is paid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.rows import RequestRow
from support.endpoint import ASK, CHAT, KEYS, Endpoint, before_scripts, before_simulated, one_pool
from support.scripted_server import ROLE, Exchange, text_frame


def request(**body: Any) -> bytes:
    """A chat request as bytes of HTTP."""
    sent = json.dumps({"model": "chat", "messages": ASK, **body}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['acme']}\r\nContent-Length: {len(sent)}"
    return head.encode() + b"\r\n\r\n" + sent


@contextlib.asynccontextmanager
async def connected(endpoint: Endpoint) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.close()


class Pool:
    """A pool that begins an answer and goes on until its client leaves, which it reports."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()

    async def silent(self, exchange: Exchange) -> None:
        self.begun.set()
        await exchange.client_left()
        self.left.set()

    async def talking(self, exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame("he"))
        await self.silent(exchange)

    async def flooding(self, exchange: Exchange) -> None:
        """More than fits into all buffers on the way to a client that does not read."""
        self.begun.set()
        try:
            await exchange.start_stream()
            while True:
                await exchange.chunk(text_frame("x" * 65_536))
        finally:
            self.left.set()


async def settled(endpoint: Endpoint) -> RequestRow:
    """The only request, once nothing of it is open any more."""
    found = await endpoint.request()
    await endpoint.settled()
    assert endpoint.service.live.in_flight(["small"]) == 0
    return found


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_leaving_before_the_first_token(tmp_path: Path, streamed: bool, how: str) -> None:
    """Closing, resetting or half-closing ends the pool's work; the tenant pays for the time it took."""
    pool = Pool()
    async with before_scripts(tmp_path, {"small": pool.silent}, one_pool()) as endpoint:
        async with connected(endpoint) as (_, writer):
            writer.write(request(stream=streamed))
            await pool.begun.wait()
            if how == "reset":
                writer.transport.abort()
            elif how == "half":
                writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
            else:
                writer.close()
            await pool.left.wait()
            summary = await settled(endpoint)
        [row] = endpoint.rows()
    assert (summary.outcome, summary.status, summary.error_code) == ("client_gone", 499, "client_closed_request")
    assert (row.outcome, row.account) == ("client_gone", "acme")
    assert row.amount_nusd > 0


async def test_leaving_in_the_midst_of_a_stream(tmp_path: Path) -> None:
    """What was said until then is paid, and the pool hears of it at once."""
    pool = Pool()
    async with before_scripts(tmp_path, {"small": pool.talking}, one_pool()) as endpoint:
        async with connected(endpoint) as (reader, writer):
            writer.write(request(stream=True))
            await reader.readuntil(b'"he"')
            writer.close()
            await pool.left.wait()
            summary = await settled(endpoint)
        [row] = endpoint.rows()
    assert summary.outcome == "client_gone"
    assert (row.outcome, row.account, row.ttft_us is not None) == ("client_gone", "acme", True)


async def test_the_policy_may_let_the_house_pay_for_those_who_leave(tmp_path: Path) -> None:
    """`failed_attempts: {client_gone: house}` is kept."""
    pool = Pool()
    files = one_pool(failed_attempts={"client_gone": "house"})
    async with before_scripts(tmp_path, {"small": pool.silent}, files) as endpoint:
        async with connected(endpoint) as (_, writer):
            writer.write(request())
            await pool.begun.wait()
            writer.close()
            await settled(endpoint)
        [row] = endpoint.rows()
    assert (row.outcome, row.account) == ("client_gone", "__failed__")


async def test_leaving_while_a_pool_boots_costs_nothing(tmp_path: Path) -> None:
    """Nobody waits any more: nothing is sent to the pool when it is up; the ledger has a request, no money."""
    files = one_pool()
    files["pools"]["small"]["boot_s"] = 60
    async with before_simulated(tmp_path, files) as endpoint:
        async with connected(endpoint) as (_, writer):
            writer.write(request())
            async with asyncio.timeout(20):
                while not (await endpoint.control("GET", "/containers"))["small"]:
                    pass
            writer.close()
            summary = await settled(endpoint)
        assert endpoint.rows() == []
    assert (summary.outcome, summary.attempts, summary.pool) == ("client_gone", 0, None)


async def test_leaving_while_waiting_for_room(tmp_path: Path) -> None:
    """A request that waits for a busy pool and leaves is gone at once; the one that runs there is not disturbed."""
    pool = Pool()
    files = one_pool()
    files["pools"]["small"] |= {"target_concurrency": 1, "max_concurrency": 1, "max_containers": 1}
    async with (
        before_scripts(tmp_path, {"small": pool.silent}, files) as endpoint,
        connected(endpoint) as (_, running),
        connected(endpoint) as (_, waiting),
    ):
        running.write(request())
        await pool.begun.wait()
        waiting.write(request())
        async with asyncio.timeout(20):
            while len(endpoint.service.ongoing) < 2:
                await asyncio.to_thread(lambda: None)
        waiting.close()
        summary = await endpoint.request()
        assert not pool.left.is_set()
        running.close()
        await endpoint.settled()
    assert (summary.outcome, summary.attempts) == ("client_gone", 0)


async def test_half_a_body_is_no_request(tmp_path: Path) -> None:
    """A client that leaves while it sends has asked for nothing."""
    async with before_scripts(tmp_path, {"small": Pool().silent}, one_pool()) as endpoint:
        async with connected(endpoint) as (_, writer):
            writer.write(request(max_tokens=5)[:-4])
            await writer.drain()
            writer.close()
        assert (await endpoint.ask("GET", "/health", None)).status == 200
        assert endpoint.upstream["small"].received == []
        assert endpoint.rows() == []


async def test_a_client_that_does_not_read_is_gone_in_the_end(tmp_path: Path) -> None:
    """It cannot keep a pool's meter running for ever: some time after the request's own end it counts as gone."""
    pool = Pool()
    limits = {"max_total_s": 0.3, "stall_timeout_s": 0.2, "first_byte_deadline_s": 0.3}
    async with before_scripts(tmp_path, {"small": pool.flooding}, one_pool(defaults=limits)) as endpoint:
        async with connected(endpoint) as (_, writer):
            writer.write(request(stream=True))
            await pool.left.wait()
            summary = await settled(endpoint)
        [row] = endpoint.rows()
    assert summary.outcome == "client_gone"
    assert row.duration_us < 5_000_000
