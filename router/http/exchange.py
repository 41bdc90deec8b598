"""One HTTP exchange on raw ASGI: read a body within its limit, write an answer, an error, or a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from router.errors import ApiError
from router.interrupts import Cause, Interrupts
from router.serving.refusals import stop_error

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def client_host(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises ApiError `request_too_large` as soon as it is known to be over `limit` bytes."""
    stated = header(scope, b"content-length")
    if stated is not None and stated.isdigit() and int(stated) > limit:
        raise _too_large(limit)
    message = await _receive(receive)
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        if size > limit:
            raise _too_large(limit)
        message = await _receive(receive)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


async def _receive(receive: Receive) -> Message:
    """The next piece of the body. Raises ApiError where the client has left instead: half a body is none."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise stop_error(Cause.CLIENT_GONE)
    return message


def _too_large(limit: int) -> ApiError:
    return ApiError("request_too_large", f"the body is larger than {limit:,} bytes; send less, or raise the limit")


async def send_whole(send: Send, status: int, headers: HeaderList, body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: HeaderList | None = None) -> None:
    await send_whole(send, error.status, [*error.headers(), *(headers or [])], error.body())


def watch_client(receive: Receive, interrupts: Interrupts) -> asyncio.Task[None]:
    """A task that interrupts the request when its client leaves. Cancel it when the answer is out."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        interrupts.interrupt(Cause.CLIENT_GONE)

    return asyncio.create_task(watch())
