"""Telling other systems what operators should know: caps that run low or out, a budget store that is down.

A sink of events. What a policy's `webhooks:` want to hear goes into a queue for each, is sent by a task of its own, and
so delays no request. Messages are signed as by the Standard Webhooks specification (standardwebhooks.com, version 1):
`webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, so that ready-made libraries check
them. Nothing in them is a prompt, a key or a secret.

A cap's warning is sent once per window, which the budget store remembers over restarts; what is repeated for as long as
it lasts is sent once an hour by each replica. A message that nobody takes is tried for about half a minute and then
given up; those that wait when the process dies are lost.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from policies.policy import Webhook, WebhookEvent
from pricing.clock import US_PER_S, Clock
from pricing.money import usd_number
from router.telemetry.events import CapExhausted, CapWarned, Event, StoreTrouble
from router.telemetry.log import LOGGER

QUEUED: Final = 100  # messages that wait for one receiver; those beyond are dropped
TRIES: Final = 6
FIRST_PAUSE_S: Final = 1.0  # before the second try; each later pause is twice as long
TRY_TIMEOUT_S: Final = 5.0  # real seconds; a receiver answers at once and works afterwards
LAST_WORDS_S: Final = 2.0  # how long a stop waits for messages under way
QUIET_S: Final = 3_600
_WHSEC: Final = "whsec_"  # the specification's prefix of secrets in base64

Told = Callable[[str, str], None]
"""Counts a message: its event, and `delivered`, `failed` or `dropped`."""


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    event: WebhookEvent
    body: bytes


class WebhookSink:
    """Belongs to the event loop that emits. A session that is handed in stays its owner's to close."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        told: Told,
        *,
        try_timeout_s: float = TRY_TIMEOUT_S,
        last_words_s: float = LAST_WORDS_S,
    ) -> None:
        """Times are real seconds: a receiver's clock is not ours."""
        self._session = session
        self._clock = clock
        self._told = told
        self._try_timeout_s = try_timeout_s
        self._last_words_s = last_words_s
        self._receivers: dict[Webhook, _Receiver] = {}
        self._quiet_until_us: dict[tuple[WebhookEvent, str], int] = {}

    def configure(self, webhooks: Sequence[Webhook]) -> None:
        """Put other receivers in force; what waits for one that is gone is dropped."""
        for gone in self._receivers.keys() - set(webhooks):
            self._receivers.pop(gone).cancel()
        for webhook in webhooks:
            if webhook not in self._receivers:
                self._receivers[webhook] = _Receiver(
                    webhook, self._session, self._clock, self._told, self._try_timeout_s
                )

    def emit(self, event: Event) -> None:
        if not self._receivers:
            return
        if isinstance(event, CapWarned):
            self._tell(WebhookEvent.CAP_WARNED, _cap_fields(event))
        elif isinstance(event, CapExhausted):
            if self._may_say(WebhookEvent.CAP_EXHAUSTED, event.cap):
                fields = {"held_usd": usd_number(event.held_nusd), "needed_usd": usd_number(event.needed_nusd)}
                self._tell(WebhookEvent.CAP_EXHAUSTED, _cap_fields(event) | fields)
        elif isinstance(event, StoreTrouble) and self._may_say(WebhookEvent.STORE_DOWN, ""):
            self._tell(WebhookEvent.STORE_DOWN, {"detail": event.detail})

    async def aclose(self) -> None:
        """Give what is under way a moment, then drop it."""
        waiting = [receiver.sent_all() for receiver in self._receivers.values()]
        try:
            await asyncio.wait_for(asyncio.gather(*waiting), self._last_words_s)
        except TimeoutError:
            LOGGER.warning("webhook messages were not delivered before the stop")
        self.configure(())

    def _may_say(self, event: WebhookEvent, about: str) -> bool:
        now_us = self._clock.wall_us()
        if now_us < self._quiet_until_us.get((event, about), 0):
            return False
        self._quiet_until_us[event, about] = now_us + QUIET_S * US_PER_S
        return True

    def _tell(self, event: WebhookEvent, fields: Mapping[str, Any]) -> None:
        message_id = f"msg_{os.urandom(12).hex()}"
        at_s = self._clock.wall_us() / US_PER_S
        body = msgspec.json.encode({"id": message_id, "type": event, "timestamp": at_s, "data": fields})
        for webhook, receiver in self._receivers.items():
            if event in webhook.events:
                receiver.put(Message(message_id, event, body))


class _Receiver:
    """One address, its queue, and the task that sends."""

    def __init__(
        self, webhook: Webhook, session: aiohttp.ClientSession, clock: Clock, told: Told, try_timeout_s: float
    ) -> None:
        self._webhook = webhook
        self._key = _key(webhook.secret)
        self._session = session
        self._clock = clock
        self._told = told
        self._timeout = aiohttp.ClientTimeout(total=try_timeout_s)
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUED)
        self._task: asyncio.Task[None] | None = None

    def put(self, message: Message) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._told(message.event, "dropped")
            return
        if self._task is None:
            self._task = asyncio.create_task(self._send_all(), name="webhook")

    async def sent_all(self) -> None:
        await self._queue.join()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        while not self._queue.empty():
            self._told(self._queue.get_nowait().event, "dropped")

    async def _send_all(self) -> None:
        while True:
            message = await self._queue.get()
            try:
                self._told(message.event, "delivered" if await self._send(message) else "failed")
            except asyncio.CancelledError:
                self._told(message.event, "dropped")
                raise
            finally:
                self._queue.task_done()

    async def _send(self, message: Message) -> bool:
        """Whether the receiver took it."""
        pause_s = FIRST_PAUSE_S
        for number in range(1, TRIES + 1):
            problem = await self._try(message)
            if problem is None:
                return True
            if number < TRIES:
                await self._clock.sleep(pause_s)
                pause_s *= 2
        host = urlsplit(self._webhook.url).hostname
        fields = {"event": message.event, "host": host, "tries": TRIES, "detail": problem}
        LOGGER.warning("webhook not delivered", extra={"fields": fields})
        return False

    async def _try(self, message: Message) -> str | None:
        """Send once. Returns what is wrong, without the address, which may hold a token; None for a success."""
        sent_s = str(self._clock.wall_us() // US_PER_S)
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": sent_s,
            "webhook-signature": signature(self._key, message.id, sent_s, message.body),
        }
        try:
            async with self._session.post(
                self._webhook.url, data=message.body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                return None if 200 <= response.status < 300 else f"status {response.status}"
        except TimeoutError:
            return f"no answer within {self._timeout.total:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:  # UnicodeError: a host that IDNA cannot encode
            return type(error).__name__


def signature(key: bytes, message_id: str, sent_s: str, body: bytes) -> str:
    """The `webhook-signature` of a message sent at `sent_s`, seconds since the epoch."""
    digest = hmac.digest(key, f"{message_id}.{sent_s}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    """What signs: of a secret in the specification's form the bytes that it stands for, else the text itself."""
    if not secret.startswith(_WHSEC):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_WHSEC), validate=True)
    except ValueError:
        return secret.encode()


def _cap_fields(event: CapWarned | CapExhausted) -> dict[str, Any]:
    return {
        "cap": event.cap,
        "scope": event.scope,
        "window": event.window,
        "spent_usd": usd_number(event.spent_nusd),
        "amount_usd": usd_number(event.amount_nusd),
    }
