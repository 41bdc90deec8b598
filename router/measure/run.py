"""One measurement from its first request to its numbers, readable as a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pools.platform import ContainerInfo, PlatformUnavailable, PoolPlatform
from pools.wire.http import HttpBackend
from pricing.clock import Clock
from router.measure.cold import LOOK_S, ColdStart, FirstAnswer, cold_start, containers_of, first_answer, until_asleep
from router.measure.load import Asker, Sample, finished, play
from router.measure.media import MediaAsker
from router.measure.result import Measurement, Serving, assumed_serving, listed_serving
from router.measure.subject import CannotMeasure, Shape, Stopped, Subject

SIZING_TRIES: Final = 3
VERSION_WITHIN_S: Final = 5.0  # real seconds; the pool is awake when it is asked


def _no_news(_: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how far it is: a phase's name as it begins, and each request of the load as it ends."""

    phase: Callable[[str], None] = _no_news
    ended: Callable[[Sample], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Measuring:
    """What a measurement works with. `stop` interrupts it; `platform` stays its owner's to close."""

    subject: Subject
    shape: Shape
    backend: HttpBackend
    platform: PoolPlatform | None
    clock: Clock
    stop: asyncio.Event
    watch: Watch = Watch()
    look_s: float = LOOK_S

    async def run(self, *, cold: bool, wait_s: float | None = None) -> Measurement:
        """Measure. With `cold` the pool is first left to fall asleep.

        Raises CannotMeasure, PlatformUnavailable, and Stopped where `stop` was set before the load began.
        """
        asker = self._asker()
        slept = await self._sleep(wait_s) if cold else None
        self.watch.phase("first answer")
        first = await first_answer(asker, 0, self.clock, self.stop)
        if isinstance(asker, Asker) and not await finished(self._size_prompts(asker, first.sample), self.stop):
            raise Stopped("interrupted before the load; nothing was measured")
        after = self.shape.requests + 1  # a prompt of its own: the engine may have cached the first one
        warm = (await first_answer(asker, after, self.clock, self.stop)).sample if cold else first.sample
        booted = None if slept is None else await self._booted(slept, first, warm)
        version = await self.backend.engine_version(VERSION_WITHIN_S * self.clock.speedup)
        self.watch.phase("load")
        began_us = self.clock.wall_us()
        load = await play(asker, self.shape, self.clock, self.stop, self.watch.ended)
        if not load.samples:
            raise Stopped("interrupted before any request had ended; nothing was measured")
        return Measurement(
            subject=self.subject,
            shape=self.shape,
            began_us=began_us,
            warm=warm,
            load=load,
            serving=await self._serving(began_us, load.wall_us),
            cold=booted,
            engine_version=version,
        )

    def _asker(self) -> Asker | MediaAsker:
        if self.shape.media is None:
            return Asker(self.backend, self.subject, self.shape, self.clock)
        return MediaAsker(self.backend, self.subject, self.shape, self.shape.media, self.clock)

    async def _sleep(self, wait_s: float | None) -> tuple[str, float]:
        if self.subject.always_on:
            where = self.subject.shown_url
            raise CannotMeasure(f"'{where}' is always on, so it has no cold start; leave --cold-start out")
        if self.subject.pool is not None and self.subject.pool.min_containers:
            text = f"min_containers of '{self.subject.pool.name}' keeps it warm, so it has no cold start"
            raise CannotMeasure(f"{text}; leave --cold-start out")
        self.watch.phase("waiting for scale-down")
        return await until_asleep(self.subject, self.platform, wait_s, self.look_s, self.clock, self.stop)

    async def _size_prompts(self, asker: Asker, first: Sample) -> None:
        """Bring prompts to the size asked for: at most `SIZING_TRIES` requests for one token each, mostly one."""
        sample = first
        for number in range(SIZING_TRIES):
            if sample.failure is not None or not asker.learn(sample):
                return
            sample = await asker.ask(self.shape.requests + 2 + number, output_tokens=1)

    async def _booted(self, slept: tuple[str, float], first: FirstAnswer, warm: Sample) -> ColdStart:
        return cold_start(*slept, first, warm, await self._listed() or ())

    async def _serving(self, began_us: int, wall_us: int) -> Serving:
        listed = await self._listed()
        if not listed or self.subject.always_on:
            return assumed_serving(self.subject, self.shape, wall_us)
        return listed_serving(listed, began_us, began_us + wall_us)

    async def _listed(self) -> tuple[ContainerInfo, ...] | None:
        """The pool's containers; None where nobody lists them."""
        if self.platform is None or self.subject.pool is None:
            return None
        try:
            return await containers_of(self.platform, self.subject.pool.name)
        except PlatformUnavailable:
            return None  # what was measured is worth more than the list
