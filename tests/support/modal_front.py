"""Modal's web layer before real servers: an HTTP proxy that does what Modal's documentation says of its own.

As a Server: without a container it answers 503 at once and starts one; a full container is 429; who does not show the
proxy token gets 401, who shows a wrong one 403; requests of a `Modal-Session-ID` go to one container while it lives;
one that is lost takes its connections along. As a Web Function (`redirect_after_s`): an answer that takes longer is
fetched from the place that a 303 names. What its refusals say in words is not documented, so they say nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from support.modal_control_plane import FakeModal

TOKEN = {"Modal-Key": "wk-front", "Modal-Secret": "ws-front"}
SESSION = "Modal-Session-ID"
CALL = "__modal_function_call_id"
_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
_LOOK_S = 0.02


@dataclass(eq=False)
class Container:
    """One that serves: its server's address, and the connections of what runs in it."""

    id: str
    url: str
    running: set[asyncio.Transport] = field(default_factory=set)
    sessions: list[str] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)


@dataclass(eq=False)
class ModalFront:
    """One deployed pool. `engines` are addresses of servers, each taken by one container; `boot_s` is real seconds."""

    engines: Sequence[str]
    boot_s: float = 0.0
    max_concurrency: int = 32
    authenticated: bool = True
    redirect_after_s: float | None = None
    url: str = ""
    containers: list[Container] = field(default_factory=list)
    boots: int = 0
    booting: bool = False
    refused: list[tuple[int, str]] = field(default_factory=list)  # status, path
    redirects: int = 0
    on_boot: Callable[[str], None] = lambda _: None
    on_ready: Callable[[str], None] = lambda _: None
    _calls: dict[str, asyncio.Task[aiohttp.ClientResponse]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # -- what tests do ---------------------------------------------------------------------------------------------

    def start(self, count: int = 1) -> None:
        """Containers that serve now, without a boot."""
        for _ in range(count):
            self._add(f"ta-{len(self.containers) + self.boots}")

    def lose(self, container: Container) -> None:
        """It is gone, preempted or crashed: its connections break, and nothing says why."""
        self.containers.remove(container)
        for transport in list(container.running):
            transport.abort()

    def scale_down(self) -> None:
        """Every container ends as Modal ends idle ones: nothing runs in them."""
        assert not any(container.running for container in self.containers)
        self.containers.clear()

    # -- the proxy -------------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if (status := self._unauthorized(request.headers)) is not None:
            return self._refuse(status, request)
        if CALL in request.query:
            return await self._answer(request, request.query[CALL])
        if not self.containers:
            self.boot()
            return self._refuse(503, request)
        container = self._pick(request.headers.get(SESSION))
        if len(container.running) >= self.max_concurrency:
            return self._refuse(429, request)
        container.paths[request.path] += 1
        assert request.transport is not None
        container.running.add(request.transport)
        try:
            call = asyncio.create_task(self._call(request, container, await request.read()))
            name = f"fc-{id(call)}"
            self._calls[name] = call
            return await self._answer(request, name)
        finally:
            container.running.discard(request.transport)

    def boot(self) -> None:
        """One container, unless one comes already."""
        if not self.booting:
            self.booting = True
            self.boots += 1
            task = asyncio.create_task(self._boot(f"ta-{self.boots}"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        tasks = [*self._tasks, *self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _boot(self, name: str) -> None:
        self.on_boot(name)
        await asyncio.sleep(self.boot_s)
        self._add(name)
        self.booting = False
        self.on_ready(name)

    def _add(self, name: str) -> None:
        taken = {container.url for container in self.containers}
        self.containers.append(Container(name, next(url for url in self.engines if url not in taken)))

    def _unauthorized(self, headers: Mapping[str, str]) -> int | None:
        if not self.authenticated:
            return None
        if not all(name in headers for name in TOKEN):
            return 401
        return None if all(headers[name] == value for name, value in TOKEN.items()) else 403

    def _refuse(self, status: int, request: web.Request) -> web.Response:
        self.refused.append((status, request.path))
        return web.Response(status=status)

    def _pick(self, session: str | None) -> Container:
        """The emptiest; with a session the one whose hash with it is the highest, as long as it lives."""
        if session is None:
            return min(self.containers, key=lambda one: len(one.running))
        chosen = max(self.containers, key=lambda one: hashlib.sha256(f"{one.id}/{session}".encode()).digest())
        chosen.sessions.append(session)
        return chosen

    async def _call(self, request: web.Request, container: Container, body: bytes) -> aiohttp.ClientResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP | TOKEN.keys()}
        session: aiohttp.ClientSession = request.app[_SESSION]
        return await session.request(request.method, container.url + request.path_qs, data=body, headers=headers)

    async def _answer(self, request: web.Request, name: str) -> web.StreamResponse:
        """What the server says, as it says it; or where to look for it later."""
        call = self._calls[name]
        done, _ = await asyncio.wait([call], timeout=self.redirect_after_s)
        if not done:
            self.redirects += 1
            return web.Response(status=303, headers={"Location": f"{request.path}?{CALL}={name}"})
        del self._calls[name]
        above = await call
        headers = {name: value for name, value in above.headers.items() if name.lower() not in _HOP}
        answer = web.StreamResponse(status=above.status, headers=headers)
        try:
            await answer.prepare(request)
            async for piece in above.content.iter_any():
                await answer.write(piece)
            await answer.write_eof()
        finally:
            above.close()  # a client that leaves is one that the engine need not answer
        return answer


_SESSION = web.AppKey("session", aiohttp.ClientSession)


@contextlib.asynccontextmanager
async def modal_front(front: ModalFront) -> AsyncIterator[ModalFront]:
    """The proxy on a free port of the loopback interface."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", front.serve)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        app[_SESSION] = session
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        front.url = f"http://{host}:{port}"
        try:
            yield front
        finally:
            await front.aclose()
            await runner.cleanup()


@contextlib.asynccontextmanager
async def scaled_by(front: ModalFront, fake: FakeModal, app: str) -> AsyncIterator[None]:
    """The front as a control plane's App: its minimum boots a container, and its containers are listed."""
    front.on_boot = lambda task: fake.boot(app, task, time.time())
    front.on_ready = lambda task: fake.serve(app, task)

    async def look() -> None:
        while True:
            if fake.app(app).autoscaler.min_containers > len(front.containers):
                front.boot()
            await asyncio.sleep(_LOOK_S)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
