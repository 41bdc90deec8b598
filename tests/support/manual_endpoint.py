"""A whole endpoint without sockets and without time: requests through the ASGI application, pools that a test plays.

Nothing runs by itself: pools answer when they are told to, the clock stands still until it is moved, ticks come when
they are asked for. `quiet` lets everything run that can.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pools.failures.classes import AttemptFailed
from pools.wire.backend import Answer, Frame, FrameKind, UpstreamRequest
from pricing.clock import ManualClock
from pricing.ledger.upgrade import ensure_current
from router.app import build_app
from router.service.service import Service
from router.service.settings import Settings
from support.endpoint import CHAT, KEYS, Policy

Play = Frame | Answer | BaseException | None  # None ends a stream
ROUNDS = 6  # of "everything that can run, runs, and is written": a step of a chain takes at most two


@dataclass(eq=False)
class Call:
    """One try that reached a pool and waits for what the test plays next."""

    pool: str
    request: UpstreamRequest
    plays: asyncio.Queue[Play] = field(default_factory=asyncio.Queue)
    begun: bool = False  # a stream whose first frame was played
    over: bool = False

    def play(self, *plays: Play) -> None:
        for one in plays:
            self.plays.put_nowait(one)

    async def next(self) -> Play:
        try:
            return await self.plays.get()
        except asyncio.CancelledError:
            self.over = True
            raise

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        found = await self.next()
        if isinstance(found, Frame):
            return found
        self.over = True
        if isinstance(found, BaseException):
            raise found
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.over = True


class PlayedBackend:
    """A pool whose every move a test makes."""

    def __init__(self, pool: str, calls: list[Call]) -> None:
        self._pool = pool
        self._calls = calls

    def _call(self, request: UpstreamRequest) -> Call:
        call = Call(self._pool, request)
        self._calls.append(call)
        return call

    async def complete(self, request: UpstreamRequest) -> Answer:
        call = self._call(request)
        found = await call.next()
        call.over = True
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Answer)
        return found

    async def stream(self, request: UpstreamRequest) -> Call:
        call = self._call(request)
        found = await call.next()
        if isinstance(found, BaseException):
            call.over = True
            raise found
        call.begun = True
        again: asyncio.Queue[Play] = asyncio.Queue()
        again.put_nowait(found)
        while not call.plays.empty():
            again.put_nowait(call.plays.get_nowait())
        call.plays = again
        return call

    async def count_tokens(self, body: bytes, timeout_s: float) -> int | None:
        return None


@dataclass(eq=False)
class Asked:
    """One request and what has come back of it."""

    tenant: str
    streamed: bool
    task: asyncio.Task[None] = field(init=False)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert self.status is None, "two answers to one request"
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert not self.complete, "bytes after the end of an answer"
        self.body += message.get("body", b"")
        self.complete = not message.get("more_body", False)


@cache
def empty_ledger() -> bytes:
    """A ledger file with its tables: making one takes longer than most runs of a test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        ensure_current(path)
        return path.read_bytes()


class ManualEndpoint:
    """Made, used and closed on one event loop."""

    def __init__(self, folder: Path, files: Policy) -> None:
        (folder / "ledger.sqlite").write_bytes(empty_ledger())
        self._path = folder / "policy.yaml"
        self._path.write_text(json.dumps(files), encoding="utf-8")
        self.clock = ManualClock()
        settings = Settings(policy_paths=(self._path,), ledger=folder / "ledger.sqlite")
        self.service = Service(settings, self.clock, {})
        self.calls: list[Call] = []
        self.asked: list[Asked] = []
        self._play(files)
        self._app = build_app(self.service)

    def reload(self, files: Policy) -> None:
        """Change the policy file and take it up."""
        self._path.write_text(json.dumps(files), encoding="utf-8")
        assert self.service.reloader.check_once() == "swapped"
        self._play(files)

    def _play(self, files: Policy) -> None:
        """In place of the backends that the service made."""
        for pool in files["endpoints"]:
            backend: Any = PlayedBackend(pool, self.calls)
            self.service.backends[pool] = backend

    def ask(self, tenant: str, **body: Any) -> Asked:
        """Send a request; it runs as far as it can with the next `quiet`."""
        asked = Asked(tenant, bool(body.get("stream")))
        sent = json.dumps(body).encode()
        first = True

        async def receive() -> MutableMapping[str, Any]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": sent}
            await asked.gone.wait()
            return {"type": "http.disconnect"}

        headers = [(b"authorization", f"Bearer {KEYS[tenant]}".encode()), (b"host", b"x")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "client": ("10.0.0.1", 1)}
        asked.task = asyncio.get_running_loop().create_task(self._app(scope, receive, asked.send))
        self.asked.append(asked)
        return asked

    def open_calls(self) -> list[Call]:
        return [call for call in self.calls if not call.over]

    async def quiet(self) -> None:
        """Let everything run that can, writing included."""
        for _ in range(ROUNDS):
            for _ in range(10):
                await asyncio.sleep(0)
            await self.service.store.post([])  # written after everything that was handed over before

    async def aclose(self) -> None:
        await self.service.stop()


def data_frame(raw: bytes) -> Frame:
    """A frame of its bytes."""
    data = raw.removeprefix(b"data: ").strip()
    return Frame(FrameKind.DONE if data == b"[DONE]" else FrameKind.DATA, raw, data)


def failed(failure: Any, **more: Any) -> AttemptFailed:
    return AttemptFailed(failure, "as played", **more)
