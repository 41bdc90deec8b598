"""Stops and faults of the endpoint itself: running requests end well or with an error, and every one is settled."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import aiohttp
import pytest

from pools.wire.backend import Answer, UpstreamRequest
from router.service.health import readiness
from support.endpoint import KEYS, before_scripts, before_simulated, events, one_pool
from support.scripted_server import DONE, ROLE, Exchange, text_frame


class Stream:
    """A pool whose stream has begun, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def script(self, exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame("he"))
        self.begun.set()
        await self.go_on.wait()
        await exchange.chunk(text_frame("llo", "stop") + DONE)
        await exchange.end_stream()


async def test_a_stop_lets_running_requests_end(tmp_path: Path) -> None:
    """Within the grace time a stream runs to its end, while nobody new is let in."""
    stream = Stream()
    async with before_scripts(tmp_path, {"small": stream.script}, one_pool(), grace_s=20.0) as endpoint:
        asked = asyncio.create_task(endpoint.chat(stream=True))
        await stream.begun.wait()
        endpoint.server.should_exit = True
        async with asyncio.timeout(20):
            while not endpoint.service.stopping:
                await asyncio.to_thread(lambda: None)
        with pytest.raises(aiohttp.ClientConnectorError):
            await endpoint.ask("GET", "/health", None)
        stream.go_on.set()
        reply = await asked
    assert reply.body.endswith(DONE)


async def test_after_the_grace_time_a_stream_ends_with_an_error(tmp_path: Path) -> None:
    """An error event, no `[DONE]`, a clean end of the body; the house pays for what we broke off."""
    stream = Stream()
    async with before_scripts(tmp_path, {"small": stream.script}, one_pool(), grace_s=0.0) as endpoint:
        asked = asyncio.create_task(endpoint.chat(stream=True))
        await stream.begun.wait()
        endpoint.server.should_exit = True
        reply = await asked
        request = await endpoint.request()
        [row] = endpoint.rows()
    assert reply.complete
    assert events(reply.body)[-1]["error"]["code"] == "shutting_down"
    assert (request.outcome, request.error_code) == ("broken", "shutting_down")
    assert (row.outcome, row.account) == ("shutdown", "__failed__")


async def test_requests_that_wait_for_a_pool_are_told(tmp_path: Path) -> None:
    """A request that waits for a boot gets a 503 that it may repeat elsewhere, and is in the ledger."""
    files = one_pool()
    files["pools"]["small"]["boot_s"] = 60
    async with before_simulated(tmp_path, files, grace_s=0.0) as endpoint:
        asked = asyncio.create_task(endpoint.chat())
        async with asyncio.timeout(20):
            while not endpoint.service.live.state("small").booting:
                await asyncio.to_thread(lambda: None)
        endpoint.server.should_exit = True
        reply = await asked
        request = await endpoint.request()
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (503, "shutting_down", "true")
    assert (request.outcome, request.attempts) == ("refused", 0)


async def test_a_connection_that_is_kept_is_told(tmp_path: Path) -> None:
    """Who still has a connection open when the stop begins gets a 503, not a lost request."""
    stream = Stream()
    async with before_scripts(tmp_path, {"small": stream.script}, one_pool(), grace_s=20.0) as endpoint:
        async with aiohttp.ClientSession(endpoint.url) as kept:
            headers = {"Authorization": f"Bearer {KEYS['acme']}"}
            async with kept.get("/v1/models", headers=headers) as first:
                await first.read()
            asked = asyncio.create_task(endpoint.chat(stream=True))
            await stream.begun.wait()
            endpoint.server.should_exit = True
            async with asyncio.timeout(20):
                while not endpoint.service.stopping:
                    await asyncio.to_thread(lambda: None)
            async with kept.post("/v1/chat/completions", json={"model": "chat"}, headers=headers) as late:
                assert late.status == 503
            stream.go_on.set()
        assert (await asked).body.endswith(DONE)


class Faulty:
    """A backend with a bug: it raises what no backend may raise."""

    async def complete(self, request: UpstreamRequest) -> Answer:
        raise ZeroDivisionError

    async def stream(self, request: UpstreamRequest) -> None:
        raise ZeroDivisionError

    async def count_tokens(self, body: bytes, timeout_s: float) -> int | None:
        return None

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_fault_of_ours_is_settled_and_answered(
    tmp_path: Path, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is a 500 that is not to be repeated; its attempt is settled, the house pays, the log has the trace."""
    async with before_scripts(tmp_path, {"small": Stream().script}, one_pool()) as endpoint:
        endpoint.service.backends["small"] = Faulty()  # type: ignore[assignment] # that is its fault
        with caplog.at_level(logging.ERROR):
            reply = await endpoint.chat(stream=streamed)
        request = await endpoint.request()
        await endpoint.settled()
        [row] = endpoint.rows()
        assert endpoint.service.live.in_flight(["small"]) == 0
        assert readiness(endpoint.service)["ready"]
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (500, "internal_error", "false")
    assert (request.outcome, request.status, request.error_code) == ("broken", 500, "internal_error")
    assert (row.outcome, row.account) == ("fault", "__failed__")
    assert "ZeroDivisionError" in caplog.text
