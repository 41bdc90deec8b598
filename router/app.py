"""One endpoint as an ASGI application, and as a server that stops gracefully."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import uvicorn

from pricing.clock import US_PER_S, Clock
from pricing.ledger.place import PostgresUrl
from router.dashboard.routes import add_dashboard_routes
from router.http.dispatch import Dispatcher
from router.http.inference import Inference
from router.http.rest import build_rest
from router.http.videos import add_video_routes
from router.service.considerate import considerate
from router.service.listening import cannot_listen
from router.service.service import Service
from router.service.settings import Settings
from router.videos.database import PostgresVideos
from router.videos.files import FileVideos
from router.videos.jobs import VideoJobs
from router.videos.store import VideoStore


def build_app(service: Service) -> Dispatcher:
    """The application over a service that its caller starts and stops."""
    inference = Inference(
        controller=service.controller,
        policy=lambda: service.policy,
        clock=service.clock,
        max_body_bytes=service.settings.max_body_bytes,
        stopping=lambda: service.stopping,
        ongoing=service.ongoing,
    )
    videos = VideoJobs(
        _video_store(service.settings),
        service.controller,
        service.ongoing,
        inference.policy,
        inference.stopping,
        service.clock,
    )
    rest = build_rest(service)
    add_video_routes(rest, service, videos)
    shared = service.parts.shared
    add_dashboard_routes(rest, service.clock, None if shared is None else shared.sign_ins)
    return Dispatcher(inference, rest, videos)


def _video_store(settings: Settings) -> VideoStore:
    """Jobs lie where the ledger is: with one process, or with all replicas."""
    keep_us = round(settings.video_keep_s * US_PER_S)
    if isinstance(settings.ledger, PostgresUrl):
        return PostgresVideos(settings.ledger, settings.replica, settings.video_bytes, keep_us)
    return FileVideos(settings.video_folder, settings.video_bytes, keep_us)


GC_THRESHOLDS: Final = (10_000, 10, 10)

Announce = Callable[[str, Service], None]


class Server(uvicorn.Server):
    """uvicorn that says when it listens, and drains between "accept nothing more" and "close what is left"."""

    def __init__(self, service: Service, announce: Announce) -> None:
        settings = service.settings
        app = build_app(service)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http="httptools",
                loop="uvloop",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # who asks is known by key; addresses only matter on loopback
                # After our own drain every request has ended; this bounds only clients that do not read.
                timeout_graceful_shutdown=5,
            )
        )
        self._service = service
        self._videos = app.videos
        self._announce = announce

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the server, not the process: uvicorn would raise them again before the service is stopped."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises CannotListen, where uvicorn would end the process with a line in the log."""
        try:
            await super().startup(sockets)
        except SystemExit as gone:
            raise cannot_listen(self.config.host, self.config.port, gone.__context__) from None
        except UnicodeError as error:  # no name of a host
            raise cannot_listen(self.config.host, self.config.port, error) from None
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", self._service)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._service.drain()
        await self._videos.ended()
        await super().shutdown(sockets)


async def serve(settings: Settings, clock: Clock, environ: Mapping[str, str], announce: Announce) -> None:
    """Run until a signal asks to stop. `announce` is called with the URL once it listens."""
    with considerate():
        service = Service(settings, clock, environ)
    try:
        await service.start()
        _settle_memory()
        await Server(service, announce).serve()
    finally:
        await service.stop()


def _settle_memory() -> None:
    """What exists by now lives as long as the process: take it out of the collector's sight, and look less often.

    A request makes a few hundred objects and nearly no cycles; with the default thresholds the collector walks over
    all of them every few requests (measured by benchmarks/bench_endpoint.py: about a tenth of the CPU).
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # of the nothing that is left: a full collection waits for a quarter of what the last one kept
    gc.set_threshold(*GC_THRESHOLDS)
