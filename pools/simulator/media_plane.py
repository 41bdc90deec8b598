"""The data plane of a pool that makes pictures or clips: from a request to its last byte, with the faults of text."""

from __future__ import annotations

import msgspec
from aiohttp import web

from pools.simulator import errors, relay
from pools.simulator.errors import EngineError
from pools.simulator.faults import Fault, FaultKind
from pools.simulator.live import LivePools
from pools.simulator.media import PATHS, MediaRequest, images_answer, mp4, parse_media
from pools.simulator.pages import HEADERS, JSON_HEADERS, not_found, wrong_method
from pools.simulator.pool import Container, Job, SimulatedPool
from pools.spec import ModelKind
from pricing.clock import US_PER_S

GARBAGE = b"<html><body>upstream</body></html>\n"


class MediaPlane:
    """Answers requests that a container of a media pool was found for."""

    def __init__(self, live: LivePools) -> None:
        self._live = live

    async def handle(
        self, request: web.BaseRequest, pool: SimulatedPool, container: Container, path: str, raw: bytes
    ) -> web.StreamResponse:
        if path not in PATHS[pool.spec.model.kind]:
            return not_found()
        if request.method != "POST":
            return wrong_method("POST")
        try:
            parsed = parse_media(pool.spec, path, request.headers.get("content-type", ""), raw)
        except EngineError as error:
            return relay.error_response(error)
        return await self._run(request, pool, container, parsed)

    async def _run(
        self, request: web.BaseRequest, pool: SimulatedPool, container: Container, parsed: MediaRequest
    ) -> web.StreamResponse:
        fault = pool.faults.take(parsed.patches, stream=False)
        kind = fault.kind if fault is not None else None
        if kind is FaultKind.REFUSE:
            return relay.cut(request)
        if kind is FaultKind.GARBAGE:
            return web.Response(body=GARBAGE, headers=JSON_HEADERS)
        if kind is FaultKind.OVERLOAD:
            return relay.error_response(errors.queue_full())
        job = Job((parsed.sequence(fault),), fault)
        pool.place(job, container, self._live.now_us())
        ticket = self._live.watch(pool, job)
        try:
            while job.ending is None:
                await ticket.news()
            if relay.is_cut(job):
                return relay.cut(request)
            error = relay.broken_by(job)
            return self._answer(pool, parsed, fault) if error is None else relay.error_response(error)
        finally:
            self._live.forget(ticket)
            pool.abort(job, self._live.now_us())

    def _answer(self, pool: SimulatedPool, parsed: MediaRequest, fault: Fault | None) -> web.Response:
        if pool.spec.model.kind is ModelKind.VIDEO:
            empty = fault is not None and fault.kind is FaultKind.EMPTY
            return web.Response(body=b"" if empty else mp4(parsed), headers={**HEADERS, "content-type": "video/mp4"})
        body = msgspec.json.encode(images_answer(parsed, self._live.now_us() // US_PER_S, fault))
        if fault is not None and fault.kind is FaultKind.BAD_JSON:
            body = body[: len(body) // 2]
        return web.Response(body=body, headers=JSON_HEADERS)
