"""From an engine's progress to bytes: one answer as a body or as a stream, up to whatever end it meets."""

from __future__ import annotations

from aiohttp import web

from pools.simulator import errors
from pools.simulator.answers import DONE, KEEP_ALIVE, Answer
from pools.simulator.errors import EngineError
from pools.simulator.faults import FaultKind
from pools.simulator.live import Ticket
from pools.simulator.pages import HEADERS, JSON_HEADERS
from pools.simulator.pool import Ending, Job
from pricing.clock import Clock

SSE_HEADERS = {**HEADERS, "content-type": "text/event-stream; charset=utf-8"}


def broken_by(job: Job) -> EngineError | None:
    """The error that an ended request ends in; None for a good end."""
    if job.ending is Ending.ENGINE_DIED:
        return errors.engine_died()
    kind = job.fault.kind if job.fault is not None else None
    if kind is FaultKind.OUT_OF_MEMORY:
        return errors.cuda_out_of_memory()
    return errors.engine_died() if kind is FaultKind.CRASH_MID_STREAM else None


def is_cut(job: Job) -> bool:
    """Whether the connection breaks instead of an end."""
    resets = job.fault is not None and job.fault.reset and job.fault.kind is FaultKind.CRASH_MID_STREAM
    return job.ending is Ending.CUT or (resets and job.ending is Ending.FINISHED)


def cut(request: web.BaseRequest) -> web.Response:
    """Close the connection after what was written, without an end. What is returned can no longer be written."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def error_response(error: EngineError) -> web.Response:
    return web.Response(body=error.body(), status=error.status, headers=JSON_HEADERS)


async def error_stream(request: web.BaseRequest, error: EngineError) -> web.StreamResponse:
    """An error inside a 200 stream, followed by a clean end: vLLM's way once the headers are out."""
    response = await open_stream(request)
    await response.write(error.frame() + DONE)
    return response


async def open_stream(request: web.BaseRequest) -> web.StreamResponse:
    """Send the headers now: they come long before the first token."""
    response = web.StreamResponse(headers=SSE_HEADERS)
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def whole(request: web.BaseRequest, answer: Answer, ticket: Ticket) -> web.StreamResponse:
    """Wait for the end, then answer at once."""
    job = ticket.job
    while job.ending is None:
        await ticket.news()
    if is_cut(job):
        return cut(request)
    error = broken_by(job)
    if error is not None:
        return error_response(error)
    return web.Response(body=answer.whole(), headers=JSON_HEADERS)


class Progress:
    """What of one streamed answer has been sent."""

    def __init__(self, answer: Answer, job: Job) -> None:
        self._answer = answer
        self._job = job
        self._sent = [0] * len(job.sequences)
        strikes = job.fault is not None and job.fault.strikes
        self._visible = job.fault.after_tokens if job.fault is not None and strikes else None

    def frames(self) -> bytes:
        """Frames for all tokens since the last call, empty when there are none."""
        frames: list[bytes] = []
        for index, produced in enumerate(self._job.produced()):
            end = produced if self._visible is None else min(produced, self._visible, self._last_but_one(index))
            begin = self._sent[index]
            if end <= begin:
                continue
            if begin == 0:
                frames += [self._answer.opening(index), self._answer.tool_opening(index)]
            self._sent[index] = end
            last = self._visible is None and self._job.sequences[index].ended_us is not None
            frames.append(self._answer.tokens(index, begin, end, sum(self._sent), last))
        return b"".join(frames)

    def _last_but_one(self, index: int) -> int:
        """An answer that breaks off has not sent its last token: that one comes with the finish."""
        return len(self._answer.request.outputs[index].ids) - 1


async def stream(
    request: web.BaseRequest, answer: Answer, ticket: Ticket, clock: Clock, keep_alive_s: float | None
) -> web.StreamResponse:
    """Send tokens as they come; a client that reads slowly gets several in a chunk."""
    response = await open_stream(request)
    job = ticket.job
    progress = Progress(answer, job)
    while True:
        ended = job.ending is not None
        frames = progress.frames()
        if frames:
            await response.write(frames)
        if ended:
            break
        await _news_or_comment(response, ticket, clock, keep_alive_s)
    if is_cut(job):
        cut(request)
        return response
    error = broken_by(job)
    if error is not None:
        await response.write(error.frame() + DONE)
    else:
        await response.write((answer.usage() if answer.request.include_usage else b"") + DONE)
    return response


async def _news_or_comment(
    response: web.StreamResponse, ticket: Ticket, clock: Clock, keep_alive_s: float | None
) -> None:
    while True:
        try:
            async with clock.timeout(keep_alive_s):
                await ticket.news()
                return
        except TimeoutError:
            await response.write(KEEP_ALIVE)
