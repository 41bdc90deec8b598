"""The routes that run a model, on raw ASGI: `/v1/chat/completions`, `/v1/completions`, `/v1/images/…`, `/generate`.

Thin: who asks, what they sent, run it, write the bytes. What happens in between is `router/serving/controller.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from policies.policy import Policy
from pricing.clock import Clock
from router.errors import ApiError
from router.http.exchange import (
    HeaderList,
    Receive,
    Scope,
    Send,
    client_host,
    header,
    read_body,
    send_error,
    send_whole,
    watch_client,
)
from router.http.limit_headers import limit_headers, usd_bytes
from router.http.simple import generate_answer, generate_body
from router.inbound.callers import identify
from router.inbound.media import IMAGE_PATHS, parse_images
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse
from router.inbound.sessions import session_asked
from router.inbound.tracing import trace_parent
from router.interrupts import Cause, Interrupted, Interrupts, Ongoing
from router.serving.chain import Chain
from router.serving.controller import Controller
from router.serving.refusals import stop_error

# Ids must be unique, not secret: whose request an id is, is checked by key. They begin with the microsecond, so that a
# ledger's indexes grow at their end: ids in no order cost its writer twice the time (a page of each index for every
# row). Reading the system's randomness for each would cost 70 µs; 44 bits from a generator seeded by it once do not
# collide within a microsecond.
_IDS = random.Random(int.from_bytes(os.urandom(32)))

GENERATE_PATH = "/generate"
PATHS = (CHAT_PATH, COMPLETIONS_PATH, GENERATE_PATH, *IMAGE_PATHS)


@dataclass(frozen=True, slots=True)
class Inference:
    """`policy` returns the policy in force; a request keeps the one it began with."""

    controller: Controller
    policy: Callable[[], Policy]
    clock: Clock
    max_body_bytes: int
    stopping: Callable[[], bool]
    ongoing: Ongoing

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, answered whatever happens."""
        request_id = f"req_{self.clock.wall_us():013x}{_IDS.getrandbits(44):011x}"
        interrupts = Interrupts()
        with self.ongoing.request(interrupts):
            try:
                chain = await self._open(request_id, scope, receive, interrupts)
            except ApiError as error:
                await send_error(send, error, [(b"x-sluice-request-id", request_id.encode())])
                return
            watch = watch_client(receive, interrupts)
            try:
                await self._run(chain, scope["path"], send)
            finally:
                watch.cancel()

    async def _open(self, request_id: str, scope: Scope, receive: Receive, interrupts: Interrupts) -> Chain:
        """Raises ApiError, also where the process stops before the whole body is there."""
        if self.stopping():
            raise stop_error(Cause.SHUTDOWN)
        policy = self.policy()
        caller = identify(policy, scope["headers"], client_host(scope))
        timeout_s = _timeout_s(header(scope, b"x-sluice-timeout-s"))
        try:
            with interrupts.armed():
                body = await read_body(scope, receive, self.max_body_bytes)
        except Interrupted as stop:
            raise stop_error(stop.cause) from None
        path = scope["path"]
        parsed = _parse(path, scope, body)
        session = session_asked(scope["headers"])
        chain = await self.controller.open(request_id, parsed, caller, policy, interrupts, timeout_s, path, session)
        chain.trace_parent = trace_parent(header(scope, b"traceparent"))
        return chain

    async def _run(self, chain: Chain, path: str, send: Send) -> None:
        try:
            if chain.parsed.stream:
                await self._stream(chain, send)
            else:
                await self._complete(chain, path, send)
        except ApiError as error:
            await self.controller.finish(chain, "refused", error.status, error.code)
            await send_error(send, error, self._headers(chain))
        except Interrupted as stop:
            await self._stopped(chain, stop.cause, send)
        except BaseException:
            await self.controller.abandon(chain)
            raise

    async def _complete(self, chain: Chain, path: str, send: Send) -> None:
        body = await self.controller.complete(chain)
        headers = self._headers(chain)
        headers.append((b"content-type", b"application/json"))
        headers.append((b"x-sluice-cost-usd", usd_bytes(chain.charged_nusd)))
        await send_whole(send, 200, headers, generate_answer(chain, body) if path == GENERATE_PATH else body)

    async def _stream(self, chain: Chain, send: Send) -> None:
        async def start() -> None:
            headers = self._headers(chain, begun=True)
            headers.append((b"content-type", b"text/event-stream; charset=utf-8"))
            headers.append((b"cache-control", b"no-cache"))
            headers.append((b"x-accel-buffering", b"no"))
            chosen = chain.decisions[-1].chosen
            if chosen is not None:
                headers.append((b"x-sluice-cost-estimate-usd", usd_bytes(chosen.expected_charge_nusd)))
            await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write(frame: bytes) -> None:
            await send({"type": "http.response.body", "body": frame, "more_body": True})

        await self.controller.stream(chain, start, write)
        if chain.interrupts.cause is not Cause.CLIENT_GONE:
            await send({"type": "http.response.body", "body": b""})

    async def _stopped(self, chain: Chain, cause: Cause, send: Send) -> None:
        error = stop_error(cause)
        outcome = "client_gone" if cause is Cause.CLIENT_GONE else "refused"
        await self.controller.finish(chain, outcome, error.status, error.code)
        if cause is not Cause.CLIENT_GONE:
            await send_error(send, error, self._headers(chain))

    def _headers(self, chain: Chain, *, begun: bool = False) -> HeaderList:
        """What every answer says about how it was served. `begun`: it is still spending, its hold says what is left."""
        headers = [
            (b"x-sluice-request-id", chain.request_id.encode()),
            (b"x-sluice-attempts", b"%d" % chain.attempts),
            (b"x-sluice-policy-version", chain.policy.version.encode()),
        ]
        if chain.pool is not None and chain.gpu is not None:
            headers.append((b"x-sluice-pool", chain.pool.encode()))
            headers.append((b"x-sluice-gpu", chain.gpu.encode()))
        headers.append((b"x-sluice-tier", (chain.tier_served or str(chain.requirements.tier)).encode()))
        if chain.without_store:
            headers.append((b"x-sluice-store", b"down-allowed"))
        if chain.decisions and (lowered_by := chain.decisions[-1].lowered_by) is not None:
            headers.append((b"x-sluice-tier-lowered", b"budget " + lowered_by.encode()))
        left_nusd = chain.standing.left_nusd if begun else self.controller.budget_left_nusd(chain)
        return headers + limit_headers(chain.standing, left_nusd)


def _parse(path: str, scope: Scope, body: bytes) -> Parsed:
    """Raises ApiError."""
    if path == GENERATE_PATH:
        return parse(CHAT_PATH, generate_body(body))
    if path in IMAGE_PATHS:
        return parse_images(path, (header(scope, b"content-type") or b"").decode("latin-1"), body)
    return parse(path, body)


def _timeout_s(text: bytes | None) -> float | None:
    """The client's own deadline in seconds. Raises ApiError `invalid_value`."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86_400:
        shown = text.decode("latin-1")[:20]
        raise ApiError("invalid_value", f"'x-sluice-timeout-s' must be seconds from 0 to 86400, not '{shown}'")
    return seconds
