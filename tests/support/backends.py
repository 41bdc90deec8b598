"""Attempts of the HTTP backend at servers that a test plays."""

from __future__ import annotations

import json

import aiohttp
import pytest

from pools.failures.classes import AttemptFailed
from pools.wire.backend import UpstreamRequest
from pools.wire.frames import HttpFrames
from pools.wire.http import HttpBackend
from pricing.clock import ScaledClock
from support.scripted_server import Exchange, Script, scripted

GOOD = json.dumps({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
REQUEST = UpstreamRequest(
    path="/v1/chat/completions",
    body=b'{"model":"m","messages":[]}',
    request_id="r-1",
    stream=True,
    connect_timeout_s=60,
    first_token_timeout_s=60,
    stall_timeout_s=60,
    total_timeout_s=600,
)


def backend(url: str, session: aiohttp.ClientSession, speedup: float = 1.0) -> HttpBackend:
    return HttpBackend(url, session, ScaledClock(speedup))


def streaming(*pieces: bytes, end: bool = True) -> Script:
    """A script that sends these chunks of a stream."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for piece in pieces:
            await exchange.chunk(piece)
        if end:
            await exchange.end_stream()
        else:
            exchange.writer.close()

    return script


async def fails(
    script: Script, session: aiohttp.ClientSession, request: UpstreamRequest = REQUEST, speedup: float = 1.0
) -> AttemptFailed:
    """The failure that ends a streamed or a whole attempt against this server."""
    async with scripted(script) as server:
        pool = backend(server.url, session, speedup)
        with pytest.raises(AttemptFailed) as caught:
            await (drain(await pool.stream(request), []) if request.stream else pool.complete(request))
    return caught.value


async def drain(stream: HttpFrames, seen: list[bytes]) -> None:
    """Read a stream to its end, keeping what it handed out."""
    try:
        async for each in stream:
            seen.append(each.raw)  # noqa: PERF401 -- what came before an error must be kept too
    finally:
        await stream.aclose()
