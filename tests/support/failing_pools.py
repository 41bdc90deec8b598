"""Pools that answer with an error, a broken stream, or as they should, and what an endpoint then writes."""

from __future__ import annotations

import json
from typing import Any

from support.endpoint import Endpoint, Policy, policy
from support.scripted_server import DONE, ROLE, Exchange, Script, text_frame

ALL = ("small", "mid", "other", "big")
GOOD = json.dumps({"choices": [{"index": 0, "message": {"content": '{"a": 1}'}, "finish_reason": "stop"}]}).encode()


def listed(**defaults: Any) -> Policy:
    """The policy in which `mid` is tried first, then `other`, then `big`."""
    found = policy(defaults={"reload_poll_s": 60, **defaults})
    found["classes"]["chat"]["objective"] = "listed"
    return found


def error(status: str, message: str, **more: Any) -> Script:
    """An engine that answers every request with one error."""
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, **more}}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body)

    return script


async def good(exchange: Exchange) -> None:
    """An engine that is well, streamed or not."""
    if not json.loads(exchange.request.body).get("stream"):
        await exchange.answer("200 OK", GOOD)
        return
    await exchange.start_stream()
    for chunk in (ROLE, text_frame("hi"), text_frame("", "stop"), DONE):
        await exchange.chunk(chunk)
    await exchange.end_stream()


async def outcomes(endpoint: Endpoint) -> list[tuple[str, str, str]]:
    """(pool, outcome, who pays) of each attempt of the only request."""
    await endpoint.request()
    return [(row.pool, row.outcome, row.account) for row in endpoint.rows()]
