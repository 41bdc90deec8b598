"""The load: `concurrency` clients, each with one request at a time, until `requests` have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.backend import FrameKind, FrameStream, UpstreamRequest
from pools.wire.http import HttpBackend
from pools.wire.sse import peek
from pricing.clock import US_PER_S, Clock
from router.inbound.request import CHAT_PATH
from router.measure.prompts import chat_body, prompt
from router.measure.subject import STALL_S, Shape, Subject

CONNECT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as its client saw it. Instants are microseconds of the clock's `mono_us`.

    `failure` is None for a whole answer; `detail` says more of one that failed and never repeats text. `tokens` are
    those of `usage`, or where the engine sends none the frames with content (`counted` False): a lower bound.
    """

    sent_us: int
    first_us: int | None
    ended_us: int
    prompt_tokens: int | None = None
    tokens: int = 0
    counted: bool = True
    failure: FailureClass | None = None
    detail: str = ""
    status: int | None = None  # of an HTTP answer that was an error

    @property
    def latency_us(self) -> int:
        return self.ended_us - self.sent_us

    @property
    def ttft_us(self) -> int | None:
        return None if self.first_us is None else self.first_us - self.sent_us


@dataclass(slots=True)
class _Heard:
    """What a stream has said so far."""

    first_us: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    frames: int = 0


class Asks(Protocol):
    """Who sends request `number`."""

    async def ask(self, number: int, /) -> Sample:
        """What became of it; cancelling closes its connection at once."""


class Asker:
    """Sends the requests of one shape to one endpoint. `words` is the length of a prompt; `learn` corrects it."""

    def __init__(self, backend: HttpBackend, subject: Subject, shape: Shape, clock: Clock) -> None:
        self.words = shape.prompt_tokens
        self._backend = backend
        self._subject = subject
        self._shape = shape
        self._clock = clock
        self._learnt: tuple[int, int] | None = None  # words and tokens of the prompt before

    async def ask(self, number: int, output_tokens: int | None = None) -> Sample:
        """Request `number` and what became of it; cancelling closes its connection at once."""
        request = self._request(number, self._shape.output_tokens if output_tokens is None else output_tokens)
        heard = _Heard()
        sent_us = self._clock.mono_us()
        try:
            frames = await self._backend.stream(request)
            try:
                await self._listen(frames, heard)
                ended_us = self._clock.mono_us()  # before the connection is put back, which may take a moment
            finally:
                await frames.aclose()
        except AttemptFailed as failed:
            return _sample(sent_us, self._clock.mono_us(), heard, failed)
        if heard.first_us is None:
            return _sample(
                sent_us, ended_us, heard, AttemptFailed(FailureClass.BAD_OUTPUT, "an answer without any text")
            )
        return _sample(sent_us, ended_us, heard)

    def learn(self, sample: Sample) -> bool:
        """Correct the prompts' length by what the engine counted for the last one; whether that changed it.

        At first a word is taken for one token, then for as many as the last two prompts differ by: template and
        tokenizer are the engine's own.
        """
        words, tokens = self.words, sample.prompt_tokens
        if tokens is None:
            return False
        per_word = 1.0
        if self._learnt is not None and self._learnt[0] != words:
            per_word = max(1.0, (tokens - self._learnt[1]) / (words - self._learnt[0]))
        self._learnt = words, tokens
        self.words = max(1, words + round((self._shape.prompt_tokens - tokens) / per_word))
        return self.words != words

    def _request(self, number: int, output_tokens: int) -> UpstreamRequest:
        shape = self._shape
        text = prompt(shape.seed, number, self.words)
        return UpstreamRequest(
            path=CHAT_PATH,
            body=chat_body(self._subject.model, text, output_tokens, exact_length=shape.exact_length),
            request_id=f"measure-{shape.seed}-{number}",
            stream=True,
            connect_timeout_s=min(CONNECT_S, shape.timeout_s),
            first_token_timeout_s=shape.timeout_s,
            stall_timeout_s=min(STALL_S, shape.timeout_s),
            total_timeout_s=shape.timeout_s,
        )

    async def _listen(self, frames: FrameStream, heard: _Heard) -> None:
        async for frame in frames:
            if frame.kind is not FrameKind.DATA:
                continue
            seen = peek(frame.data)
            if seen.has_content:
                heard.frames += 1
                heard.first_us = self._clock.mono_us() if heard.first_us is None else heard.first_us
            if seen.has_usage:
                heard.prompt_tokens, heard.completion_tokens = seen.prompt_tokens, seen.completion_tokens


def _sample(sent_us: int, ended_us: int, heard: _Heard, failed: AttemptFailed | None = None) -> Sample:
    return Sample(
        sent_us,
        heard.first_us,
        ended_us,
        prompt_tokens=heard.prompt_tokens,
        tokens=heard.frames if heard.completion_tokens is None else heard.completion_tokens,
        counted=heard.completion_tokens is not None,
        failure=None if failed is None else failed.failure,
        detail="" if failed is None else failed.detail,
        status=None if failed is None else failed.status,
    )


@dataclass(slots=True)
class Load:
    """What a load has brought so far; `cancelled` counts requests that an interrupt cut off."""

    began_us: int
    samples: list[Sample]
    ended_us: int = 0
    cancelled: int = 0

    @property
    def wall_us(self) -> int:
        return self.ended_us - self.began_us


async def play(
    asker: Asks, shape: Shape, clock: Clock, stop: asyncio.Event, on_ended: Callable[[Sample], None]
) -> Load:
    """Run the load to its end, or until `stop` is set: then nothing new is sent, and what runs is cut."""
    load = Load(clock.mono_us(), [])
    numbers = iter(range(1, shape.requests + 1))
    running = 0

    async def client() -> None:
        nonlocal running
        for number in numbers:
            running += 1
            sample = await asker.ask(number)
            running -= 1
            load.samples.append(sample)
            on_ended(sample)

    async def clients() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(shape.concurrency, shape.requests)):
                group.create_task(client())

    if not await finished(clients(), stop):
        load.cancelled = running
    load.ended_us = clock.mono_us()
    return load


async def finished(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Run `work`; True when it came to its end, False when `stop` was set first and it was cancelled."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = task.done()
        for each in (task, stopping):
            each.cancel()
        await asyncio.wait((task, stopping))
    if ended:
        task.result()
    return ended


def seconds(us: int) -> float:
    return us / US_PER_S
