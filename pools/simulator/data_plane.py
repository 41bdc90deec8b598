"""The data plane of one pool over HTTP: what a platform's proxy, and a vLLM 0.32.0 behind it, would answer."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from pools.simulator import errors, relay
from pools.simulator.answers import Answer
from pools.simulator.engine import Sequence
from pools.simulator.errors import EngineError
from pools.simulator.faults import Fault, FaultKind, spoil
from pools.simulator.live import LivePools
from pools.simulator.media import makes_media
from pools.simulator.media_plane import MediaPlane
from pools.simulator.pages import JSON_HEADERS, PAGES, VERSION, detokenize_page, not_found, tokenize_page, wrong_method
from pools.simulator.pool import Container, Ending, Job, Refusal, SimulatedPool
from pools.simulator.request import EngineRequest, parse_chat, parse_completion, read_body
from pools.spec import PoolSpec
from pricing.clock import US_PER_S

PARSERS: Final[Mapping[str, Callable[[PoolSpec, Mapping[str, Any]], EngineRequest]]] = {
    "/v1/chat/completions": parse_chat,
    "/v1/completions": parse_completion,
}
TOKENIZE: Final = "/tokenize"
DETOKENIZE: Final = "/detokenize"
PLATFORM_HEADERS: Final = {"content-type": "text/plain; charset=utf-8"}
REFUSALS: Final = {
    Refusal.COLD: (503, b"no container is ready; one is starting\n"),
    Refusal.FULL: (429, b"every container is at its max_concurrency\n"),
}
GARBAGE: Final = b"<html><body>upstream</body></html>\n"


class DataPlane:
    """Answers requests to `/pools/<name>/…`. Any of them, a health probe too, wakes a pool that sleeps."""

    def __init__(self, live: LivePools, rng: random.Random, keep_alive_s: float | None) -> None:
        self._live = live
        self._rng = rng
        self._keep_alive_s = keep_alive_s
        self._media = MediaPlane(live)

    async def handle(self, request: web.BaseRequest, pool: SimulatedPool, path: str) -> web.StreamResponse:
        """One request, from the platform's door to its last byte."""
        raw = await request.content.read() if request.method == "POST" else b""
        now_us = self._live.now_us()
        container = pool.ready_container(now_us)
        if container is Refusal.GONE:
            return relay.cut(request)
        if isinstance(container, Refusal):
            status, text = REFUSALS[container]
            return web.Response(body=text, status=status, headers=PLATFORM_HEADERS)
        if path in PAGES:
            return PAGES[path](pool, container) if request.method == "GET" else wrong_method("GET")
        if makes_media(pool.spec):
            return await self._media.handle(request, pool, container, path, raw)
        if path not in PARSERS and path not in (TOKENIZE, DETOKENIZE):
            return not_found()
        if request.method != "POST":
            return wrong_method("POST")
        try:
            body = read_body(request.headers.get("content-type", ""), raw)
            if path == DETOKENIZE:
                return detokenize_page(body)
            if path == TOKENIZE:
                return tokenize_page(pool, body)
            parsed = PARSERS[path](pool.spec, body)
        except EngineError as error:
            return relay.error_response(error)
        return await self._run(request, pool, container, parsed, now_us)

    async def _run(
        self, request: web.BaseRequest, pool: SimulatedPool, container: Container, parsed: EngineRequest, now_us: int
    ) -> web.StreamResponse:
        fault = pool.faults.take(parsed.prompt_tokens + parsed.max_tokens, parsed.stream)
        kind = fault.kind if fault is not None else None
        if kind is FaultKind.REFUSE:
            return relay.cut(request)
        if kind is FaultKind.GARBAGE:
            headers = relay.SSE_HEADERS if parsed.stream else JSON_HEADERS
            return web.Response(body=GARBAGE, headers=headers)
        if kind is FaultKind.OVERLOAD or _is_full(container):
            error = errors.queue_full()
            return await relay.error_stream(request, error) if parsed.stream else relay.error_response(error)
        parsed = spoil(parsed, fault)
        job = Job(tuple(_sequences(parsed, fault)), fault)
        pool.place(job, container, now_us)
        answer = self._answer(request, pool, parsed, now_us)
        ticket = self._live.watch(pool, job)
        try:
            if parsed.stream:
                response = await relay.stream(request, answer, ticket, self._live.clock, self._keep_alive_s)
            else:
                response = await relay.whole(request, answer, ticket)
            _count_finish(job, parsed)
            return response
        except ConnectionError:  # the client left while a write was under way
            return web.Response()
        finally:
            self._live.forget(ticket)
            pool.abort(job, self._live.now_us())

    def _answer(self, request: web.BaseRequest, pool: SimulatedPool, parsed: EngineRequest, now_us: int) -> Answer:
        name = pool.spec.served_model_name
        return Answer(
            request=parsed,
            id=request.headers.get("x-request-id") or f"{self._rng.getrandbits(64):016x}",
            created=now_us // US_PER_S,
            model=name,
            fingerprint=f"vllm-{VERSION}-{zlib.crc32(name.encode()):08x}",
        )


def _count_finish(job: Job, parsed: EngineRequest) -> None:
    """For the metrics; aborted requests are counted nowhere, as on vLLM."""
    if job.engine is not None and job.ending is Ending.FINISHED and relay.broken_by(job) is None:
        job.engine.finished.update(output.finish_reason for output in parsed.outputs)


def _is_full(container: Container) -> bool:
    """Whether the engine's own queue limit is reached; vLLM has none unless it is set."""
    limit = container.engine.settings.max_num_queued_reqs
    return limit is not None and container.engine.running + container.engine.waiting >= limit


def _sequences(parsed: EngineRequest, fault: Fault | None) -> list[Sequence]:
    """One for each choice. A fault that strikes ends it where it strikes, at the first token at the earliest."""
    sequences = []
    for index, output in enumerate(parsed.outputs):
        tokens = len(output.ids)
        if fault is not None and fault.strikes:
            tokens = max(1, min(tokens, fault.after_tokens))
        stride = fault.factor if fault is not None and fault.kind is FaultKind.SLOW else 1
        fatal = fault is not None and fault.kind is FaultKind.ENGINE_DEATH
        sequences.append(Sequence(len(parsed.prompt_of(index)), tokens, stride, fatal))
    return sequences
