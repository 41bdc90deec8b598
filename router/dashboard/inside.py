"""The public API, asked from inside this process: the routes, keys and rights that there are outside, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from router.http.exchange import Message, Receive, Scope, Send
from router.http.replies import SIGNED_IN

App = Callable[[Scope, Receive, Send], Awaitable[None]]
LARGE_BYTES: Final = 2**17  # from there on a document is read beside the event loop, not on it
_NOT_PASSED_ON: Final = (b"cookie", b"content-length", b"content-type", b"if-none-match", b"last-event-id")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: what the API would see of them, had they called it with their key themselves.

    `key_hash` None is somebody who has not signed in; the API knows whether this machine may see things all the same.
    """

    headers: tuple[tuple[bytes, bytes], ...]
    client: tuple[str, int] | None
    key_hash: str | None = None

    @classmethod
    def of(cls, scope: Scope, key_hash: str | None) -> Visitor:
        headers = tuple((name, value) for name, value in scope["headers"] if name not in _NOT_PASSED_ON)
        return cls(headers, scope.get("client"), key_hash)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route said. `json` is its document, that of its error included."""

    status: int
    json: Any

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def trouble(self) -> str:
        """Why there is no document, in the API's own words; empty where there is one."""
        return "" if self.ok else str(self.json["error"]["message"])


class PublicApi:
    """`app` answers the API's routes."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def get(self, visitor: Visitor, path: str, **query: object) -> Answer:
        """Ask a route for its document. One that has none, a stream say, is as good as not found."""
        status, body = 500, b""
        async with aclosing(self._messages(visitor, path, query)) as messages:
            async for message in messages:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    if (b"content-type", b"application/json") not in message["headers"]:
                        return Answer(404, {"error": {"message": f"{path} is no document"}})
                else:
                    body += message.get("body", b"")
        if len(body) > LARGE_BYTES:
            return Answer(status, await asyncio.to_thread(msgspec.json.decode, body))
        return Answer(status, msgspec.json.decode(body))

    async def events(self, visitor: Visitor, path: str) -> AsyncGenerator[Any, None]:
        """The data of each server-sent event of a route, decoded; None for a comment, which keeps a connection alive.

        Ends with the route's answer; one that is an error has no events.
        """
        rest = b""
        async with aclosing(self._messages(visitor, path, {})) as messages:
            async for message in messages:
                if message["type"] == "http.response.start":
                    if message["status"] != 200:
                        return
                    continue
                *whole, rest = (rest + message.get("body", b"")).split(b"\n\n")
                for event in whole:
                    data = [line[6:] for line in event.split(b"\n") if line.startswith(b"data: ")]
                    yield msgspec.json.decode(data[0]) if data else None

    async def _messages(self, visitor: Visitor, path: str, query: dict[str, object]) -> AsyncGenerator[Message, None]:
        """What the application sends. Whoever stops reading ends it."""
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()  # nobody leaves in here but by ending the task
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def run() -> None:
            try:
                await self._app(_scope(visitor, path, query), receive, sent.put)
            finally:
                sent.put_nowait(None)

        running = asyncio.create_task(run())
        try:
            while (message := await sent.get()) is not None:
                yield message
            await running
        finally:
            running.cancel()


def _scope(visitor: Visitor, path: str, query: dict[str, object]) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(query).encode(),
        "headers": list(visitor.headers),
        "client": visitor.client,
        "server": None,
        SIGNED_IN: visitor.key_hash,
    }
