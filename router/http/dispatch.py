"""The ASGI application: a dict of (method, path) for the routes that run models, FastAPI for everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router.errors import ApiError
from router.http.exchange import Receive, Scope, Send, send_error
from router.http.inference import PATHS, Inference
from router.telemetry.log import LOGGER
from router.videos.jobs import VideoJobs

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """`rest` answers what is not inference. FastAPI costs 0.11 ms a request more than this dict (docs/decisions)."""

    inference: Inference
    rest: Asgi
    videos: VideoJobs  # jobs that outlive the requests that made them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self.rest(scope, receive, send)
        elif scope["method"] == "POST":
            await self._infer(scope, receive, send)
        else:
            error = ApiError("method_not_allowed", f"{scope['path']} takes POST, not {scope['method']}")
            await send_error(send, error, [(b"allow", b"POST")])

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: object) -> None:
            nonlocal started
            started = True
            await send(message)  # type: ignore[arg-type] # what goes in is what comes out

        try:
            await self.inference.handle(scope, receive, noting_send)
        except Exception:  # noqa: BLE001 # the last place that can answer; the bug itself is logged with its trace
            LOGGER.exception("a request failed by a fault of ours")
            if not started:
                await send_error(send, ApiError("internal_error", "this is a fault of the endpoint; its log has more"))
