"""A ledger that cannot be written for a while: no answer and no money is lost, and nothing is given away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pricing.clock import ScaledClock
from pricing.ledger.rows import WITHOUT_STORE
from support.endpoint import Endpoint, before_scripts, events, one_pool
from support.full_disk import files_at_most
from support.scripted_server import DONE, ROLE, Exchange, frame, text_frame

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}], "usage": USAGE}
).encode()
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
QUICK = one_pool(defaults={"hold_tick_s": 0.05})


class Gate:
    """A pool that answers when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()

    async def script(self, exchange: Exchange) -> None:
        streamed = json.loads(exchange.request.body).get("stream")
        if streamed:
            await exchange.start_stream()
            await exchange.chunk(ROLE + text_frame("he"))
        self.begun.set()
        await self.open.wait()
        if streamed:
            await exchange.chunk(text_frame("llo", "stop") + frame(choices=[], usage=USAGE) + DONE)
            await exchange.end_stream()
        else:
            await exchange.answer("200 OK", ANSWER)


@contextlib.asynccontextmanager
async def full_disk(endpoint: Endpoint) -> AsyncIterator[None]:
    """The ledger's files cannot grow."""
    with files_at_most(endpoint.ledger.with_name("ledger.sqlite-wal").stat().st_size):
        yield


async def up_again(endpoint: Endpoint) -> None:
    """Wait until the store has been asked again, which is done now and then."""
    async with asyncio.timeout(10):
        while (await endpoint.ask("GET", "/health/readiness", None)).json["store"] != "up":
            pass


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_is_delivered_and_settled_later(tmp_path: Path, streamed: bool) -> None:
    """The disk fills while an answer is made: the client gets it with its cost, the row follows when there is room."""
    gate = Gate()
    async with before_scripts(tmp_path, {"small": gate.script}, QUICK) as endpoint:
        asked = asyncio.create_task(endpoint.chat(**STREAMED if streamed else {}))
        await gate.begun.wait()
        async with full_disk(endpoint):
            gate.open.set()
            reply = await asked
            assert endpoint.rows() == []
        request = await endpoint.request()
        [row] = endpoint.rows()
    assert reply.status == 200
    usage = events(reply.body)[-2]["usage"] if streamed else reply.json["usage"]
    assert round(usage["cost"] * 10**9) == row.amount_nusd > 0
    assert (request.outcome, row.outcome, row.estimated) == ("served", "answered", False)
    assert reply.body.endswith(DONE) == streamed


async def test_new_requests_are_refused_until_there_is_room(tmp_path: Path) -> None:
    """503 `store_unavailable`, to be tried again soon; nothing is sent to a pool whose cost could not be kept."""
    gate = Gate()
    gate.open.set()
    async with before_scripts(tmp_path, {"small": gate.script}, QUICK) as endpoint:
        assert (await endpoint.chat()).status == 200
        async with full_disk(endpoint):
            refused = [await endpoint.chat() for _ in range(3)]
        await up_again(endpoint)
        again = await endpoint.chat()
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
        asked = len(endpoint.upstream["small"].received)
    assert [(reply.status, reply.code) for reply in refused] == [(503, "store_unavailable")] * 3
    assert {(reply.headers["x-should-retry"], reply.headers["retry-after"]) for reply in refused} == {("true", "2")}
    assert again.status == 200
    assert asked == 2
    assert 'sluice_store_trouble_total{decision="reject"} 3.0' in metrics


async def test_a_failed_attempt_is_settled_later_too(tmp_path: Path) -> None:
    """The disk fills between two attempts: the chain ends, and the first one's row is written when there is room."""
    gate = Gate()

    async def fails(exchange: Exchange) -> None:
        gate.begun.set()
        await gate.open.wait()
        await exchange.answer("500 Internal Server Error", b"{}")

    async with before_scripts(tmp_path, {"small": fails}, QUICK) as endpoint:
        asked = asyncio.create_task(endpoint.chat())
        await gate.begun.wait()
        async with full_disk(endpoint):
            gate.open.set()
            reply = await asked
        request = await endpoint.request()
        [row] = endpoint.rows()
    assert (reply.status, reply.code) == (503, "store_unavailable")
    assert (request.outcome, request.attempts) == ("refused", 1)
    assert (row.outcome, row.account) == ("unavailable", "__failed__")


async def test_a_running_answer_spends_its_hold_and_no_more(tmp_path: Path) -> None:
    """Without a store no hold can grow: the stream ends with an error when its hold is spent, not later."""
    gate = Gate()
    async with before_scripts(tmp_path, {"small": gate.script}, QUICK, clock=ScaledClock(50)) as endpoint:
        asked = asyncio.create_task(endpoint.chat(stream=True))
        await gate.begun.wait()
        async with full_disk(endpoint):
            reply = await asked
        request = await endpoint.request()
        rows = endpoint.rows()
        gate.open.set()
    assert events(reply.body)[-1]["error"]["code"] == "store_unavailable"
    assert (request.outcome, request.error_code) == ("broken", "store_unavailable")
    assert {row.outcome for row in rows} == {"store_down"}
    assert rows[0].account == "acme"


async def test_an_allowed_class_is_served_on_the_allowance(tmp_path: Path) -> None:
    """The disk is full: answers come, say so, and are paid for once there is room; readiness says degraded, metrics how
    many passed. A class that rejects is refused all the while.
    """
    gate = Gate()
    gate.open.set()
    files = one_pool(defaults={"hold_tick_s": 0.05}, store={"allowance_usd": 0.5})
    ladder = files["classes"]["chat"]
    files["classes"] = {"chat": {**ladder, "on_store_down": "allow"}, "text": ladder}
    async with before_scripts(tmp_path, {"small": gate.script}, files) as endpoint:
        assert (await endpoint.chat()).headers.get("x-sluice-store") is None
        async with full_disk(endpoint):
            refused = await endpoint.chat(model="text")
            replies = [await endpoint.chat(), await endpoint.chat(**STREAMED)]
            readiness = await endpoint.ask("GET", "/health/readiness", None)
            health = (await endpoint.ask("GET", "/health", "ops")).json["budget_store"]
            metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
            assert len(endpoint.rows()) == 1
        await up_again(endpoint)
        rows = endpoint.rows()
    assert (refused.status, refused.code) == (503, "store_unavailable")
    assert [(reply.status, reply.headers["x-sluice-store"]) for reply in replies] == [(200, "down-allowed")] * 2
    assert (readiness.status, readiness.json["degraded"], readiness.json["store"]) == (200, True, "down")
    assert (health["endings_kept"], "disk" in health["trouble"]) == (2, True)
    assert 'sluice_store_down_holds_total{decision="allowed"} 2.0' in metrics
    assert [row.tags for row in rows] == [(), (WITHOUT_STORE,), (WITHOUT_STORE,)]
    assert all(row.account == "acme" and row.amount_nusd > 0 for row in rows)


async def test_the_allowance_ends(tmp_path: Path) -> None:
    """What is beyond it is refused, and the replica is not ready any more until the store is back."""
    gate = Gate()
    gate.open.set()
    files = one_pool(defaults={"hold_tick_s": 0.05, "on_store_down": "allow"}, store={"allowance_usd": 0.000000001})
    async with before_scripts(tmp_path, {"small": gate.script}, files) as endpoint:
        assert (await endpoint.chat()).status == 200
        async with full_disk(endpoint):
            reply = await endpoint.chat()
            live = await endpoint.ask("GET", "/health/liveness", None)
        await up_again(endpoint)
    assert (reply.status, reply.code) == (503, "store_unavailable")
    assert live.status == 200


async def test_a_replica_that_rejects_is_not_ready(tmp_path: Path) -> None:
    """Whoever balances load sends requests elsewhere; nobody restarts it, which would lose what it keeps."""
    gate = Gate()
    gate.open.set()
    async with before_scripts(tmp_path, {"small": gate.script}, QUICK) as endpoint:
        assert (await endpoint.chat()).status == 200
        async with full_disk(endpoint):
            await endpoint.chat()
            readiness = await endpoint.ask("GET", "/health/readiness", None)
        await up_again(endpoint)
    assert (readiness.status, readiness.json["ready"], readiness.json["degraded"]) == (503, False, False)
