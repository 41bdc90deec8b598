"""Webhooks before real servers that take messages, refuse them, hang, break off or come back; and at an endpoint."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.policy import Webhook, WebhookEvent
from pools.wire.http import make_session
from pricing.clock import ScaledClock
from router.telemetry.events import CapExhausted, CapWarned, Event, PolicyReloaded, StoreTrouble
from router.telemetry.webhook import QUEUED, TRIES, WebhookSink
from support.endpoint import before_simulated, one_pool
from support.scripted_server import Exchange, Received, Script, ScriptedServer, scripted

SECRET = "s3cret-of-the-receiver"
WARNED = CapWarned("acme/day", "tenant:acme", "24h", 8_000_000_000, 10_000_000_000)
EXHAUSTED = CapExhausted("acme/day", "tenant:acme", "24h", 9_500_000_000, 400_000_000, 10_000_000_000, 200_000_000)


class Told:
    """What was counted, and a way to wait for it."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._one_more = asyncio.Event()

    def __call__(self, event: str, outcome: str) -> None:
        self.counts[event, outcome] += 1
        self._one_more.set()

    async def until(self, total: int) -> None:
        async with asyncio.timeout(20):
            while self.counts.total() < total:
                self._one_more.clear()
                await self._one_more.wait()


@contextlib.asynccontextmanager
async def sink(*webhooks: Webhook, try_timeout_s: float = 5.0) -> AsyncIterator[tuple[WebhookSink, Told]]:
    """A sink whose pauses pass a hundred times faster."""
    told = Told()
    async with make_session() as session:
        made = WebhookSink(session, ScaledClock(100.0), told, try_timeout_s=try_timeout_s, last_words_s=0.1)
        made.configure(webhooks)
        yield made, told
        await made.aclose()


def to(server: ScriptedServer, *events: WebhookEvent, secret: str = SECRET) -> Webhook:
    return Webhook(f"{server.url}/hook?token=t0ken", secret, frozenset(events or WebhookEvent))


async def take(exchange: Exchange) -> None:
    await exchange.answer("204 No Content", b"")


def data_of(received: Received) -> Any:
    return json.loads(received.body)["data"]


def checked(received: Received, key: bytes) -> bool:
    """As a receiver checks it: the signature over id, timestamp and body, and that it is not old."""
    sent = received.headers["webhook-timestamp"]
    signed = f"{received.headers['webhook-id']}.{sent}.".encode() + received.body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return received.headers["webhook-signature"] == f"v1,{wanted}" and sent.isdigit()


# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_a_warning_arrives_signed() -> None:
    """A POST of JSON with the cap and its numbers, which a receiver can check against the secret."""
    async with scripted(take) as server, sink(to(server)) as (webhooks, told):
        webhooks.emit(WARNED)
        await told.until(1)
    [received] = server.received
    body = json.loads(received.body)
    assert (received.method, received.path) == ("POST", "/hook?token=t0ken")
    assert (body["type"], body["id"]) == ("cap_warned", received.headers["webhook-id"])
    assert body["data"] == {
        "cap": "acme/day",
        "scope": "tenant:acme",
        "window": "24h",
        "spent_usd": 8.0,
        "amount_usd": 10.0,
    }
    assert checked(received, SECRET.encode())
    assert not checked(received, b"another")
    assert told.counts == {("cap_warned", "delivered"): 1}


async def test_a_secret_in_the_specification_s_form_is_decoded() -> None:
    """`whsec_` and base64, as ready-made libraries write secrets; what is no base64 is taken as it is."""
    secrets = {"whsec_" + base64.b64encode(b"raw bytes").decode(): b"raw bytes", "whsec_!": b"whsec_!"}
    for secret, key in secrets.items():
        async with scripted(take) as server, sink(to(server, secret=secret)) as (webhooks, told):
            webhooks.emit(WARNED)
            await told.until(1)
        assert checked(server.received[0], key)


async def test_each_receiver_hears_what_it_asked_for() -> None:
    """Events that nobody asked for, and those that are no news for operators, go nowhere."""
    async with scripted(take) as caps, scripted(take) as stores:
        receivers = (to(caps, WebhookEvent.CAP_WARNED, WebhookEvent.CAP_EXHAUSTED), to(stores, WebhookEvent.STORE_DOWN))
        async with sink(*receivers) as (webhooks, told):
            for event in (WARNED, EXHAUSTED, StoreTrouble("reject", "disk full"), PolicyReloaded("v2", "v1")):
                webhooks.emit(event)
            await told.until(3)
    assert [json.loads(one.body)["type"] for one in caps.received] == ["cap_warned", "cap_exhausted"]
    assert data_of(caps.received[1])["needed_usd"] == 0.2
    assert [data_of(one) for one in stores.received] == [{"detail": "disk full"}]


async def test_what_lasts_is_said_once_an_hour() -> None:
    """A thousand refused requests are one message, for each cap; so is a store that stays down."""
    other = CapExhausted("globex/day", "tenant:globex", "24h", 1, 0, 1, 1)
    again: list[Event] = [EXHAUSTED, other, StoreTrouble("retry", "disk full")]
    async with scripted(take) as server, sink(to(server)) as (webhooks, told):
        for _ in range(1_000):
            for event in again:
                webhooks.emit(event)
        await told.until(3)
    assert len(server.received) == 3


# -- receivers in trouble ----------------------------------------------------------------------------------------------


def failing(times: int, trouble: Script) -> Script:
    """In trouble for so many requests, then well."""
    left = times

    async def play(exchange: Exchange) -> None:
        nonlocal left
        left -= 1
        await (trouble if left >= 0 else take)(exchange)

    return play


async def hang(exchange: Exchange) -> None:
    await exchange.client_left()


async def fail(exchange: Exchange) -> None:
    await exchange.answer("500 Internal Server Error", b"no")


async def elsewhere(exchange: Exchange) -> None:
    await exchange.answer("302 Found", b"", "text/plain", "Location: /other")


async def break_off(exchange: Exchange) -> None:
    exchange.reset()


@pytest.mark.parametrize("trouble", [hang, fail, elsewhere, break_off])
async def test_a_message_is_sent_again_until_it_is_taken(trouble: Script) -> None:
    """A receiver that hangs, answers 500, points elsewhere or breaks off gets the same message, signed anew."""
    async with scripted(failing(2, trouble)) as server, sink(to(server), try_timeout_s=0.2) as (webhooks, told):
        webhooks.emit(WARNED)
        await told.until(1)
    assert len(server.received) == 3
    assert len({received.headers["webhook-id"] for received in server.received}) == 1
    assert {received.path for received in server.received} == {"/hook?token=t0ken"}
    assert all(checked(received, SECRET.encode()) for received in server.received)
    assert told.counts == {("cap_warned", "delivered"): 1}


async def test_a_receiver_that_is_not_there_is_given_up_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """After its tries the message is lost, and the log says so without the address, which may hold a token."""
    async with scripted(take) as server:
        gone = to(server)
    with caplog.at_level(logging.WARNING):
        async with sink(gone) as (webhooks, told):
            webhooks.emit(WARNED)
            await told.until(1)
    assert told.counts == {("cap_warned", "failed"): 1}
    [record] = caplog.records
    fields = record.__dict__["fields"]
    assert (fields["event"], fields["host"], fields["tries"]) == ("cap_warned", "127.0.0.1", TRIES)
    assert "t0ken" not in str(fields)


async def test_the_queue_is_bounded_and_others_do_not_wait() -> None:
    """Behind a receiver that hangs, messages beyond the queue are dropped; another receiver gets every one."""
    async with scripted(hang) as stuck, scripted(take) as well:
        receivers = (to(stuck), to(well))
        async with sink(*receivers) as (webhooks, told):
            for _ in range(QUEUED):
                webhooks.emit(WARNED)
            await told.until(QUEUED)
            assert told.counts == {("cap_warned", "delivered"): QUEUED}
            for _ in range(5):
                webhooks.emit(WARNED)
            webhooks.configure([receivers[1]])
            await told.until(2 * (QUEUED + 5))
    assert told.counts == {("cap_warned", "delivered"): QUEUED + 5, ("cap_warned", "dropped"): QUEUED + 5}


async def test_a_stop_does_not_wait_for_a_receiver_that_hangs() -> None:
    """What is under way has a moment, then it is dropped and counted."""
    async with scripted(hang) as server:
        async with sink(to(server)) as (webhooks, told):
            webhooks.emit(WARNED)
        await told.until(1)
    assert told.counts == {("cap_warned", "dropped"): 1}


# -- at an endpoint ----------------------------------------------------------------------------------------------------


def watched(url: str) -> Any:
    """A policy with a cap that warns at once, and a webhook."""
    files = one_pool(webhooks=[{"url": url, "secret": "${HOOK_SECRET}"}])
    files["tenants"]["acme"]["caps"] = [
        {"name": "day", "amount_usd": 1, "window": "24h", "thresholds": {"warn": "0.1%"}},
        {"name": "none", "amount_usd": 0, "window": "24h", "scope": "key:acme-key"},
    ]
    return files


async def test_a_warning_is_sent_once_per_window_also_over_a_restart(tmp_path: Path) -> None:
    """The store remembers that it was said; neither another request nor another process says it again."""
    async with scripted(take) as server:
        files = watched(f"{server.url}/hook")
        files["tenants"]["acme"]["caps"].pop()
        for _ in range(2):
            more: Any = {"awake": ("small",), "environ": {"HOOK_SECRET": SECRET}}
            async with before_simulated(tmp_path, files, **more) as endpoint:
                for _ in range(4):
                    assert (await endpoint.chat(max_tokens=300, sim_output_tokens=300)).status == 200
    assert [json.loads(received.body)["type"] for received in server.received] == ["cap_warned"]
    assert data_of(server.received[0])["cap"] == "acme/day"


async def test_a_receiver_that_hangs_delays_no_request(tmp_path: Path) -> None:
    """The refused client has its answer while the receiver still has not; the secret is on no page."""
    async with scripted(hang) as server:
        more: Any = {"awake": ("small",), "environ": {"HOOK_SECRET": SECRET}}
        async with before_simulated(tmp_path, watched(f"{server.url}/hook"), **more) as endpoint:
            reply = await endpoint.chat()
            pages = [(await endpoint.ask("GET", path, "ops")).body.decode() for path in ("/metrics", "/health")]
    assert (reply.status, reply.code) == (429, "budget_exceeded")
    assert "sluice_cap_refusals_total 1.0" in pages[0]
    assert "sluice_webhook_messages_total{" not in pages[0]
    assert not [page for page in pages if SECRET in page]


async def test_an_address_that_cannot_be_encoded_does_not_end_the_sender() -> None:
    """Every message to it fails, is counted, and the next one is tried."""
    async with sink(Webhook("https://hooks..example/x", SECRET, frozenset(WebhookEvent))) as (webhooks, told):
        webhooks.emit(WARNED)
        webhooks.emit(WARNED)
        await told.until(2)
    assert told.counts == {("cap_warned", "failed"): 2}
