"""Before the load: let the pool fall asleep, and get the first answer out of it, however long it boots."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from pools.failures.classes import FailureClass
from pools.platform import ContainerInfo, PoolPlatform
from pricing.clock import US_PER_S, Clock
from router.measure.load import Asks, Sample, finished, seconds
from router.measure.subject import CannotMeasure, Stopped, Subject

LOOK_S: Final = 2.0  # between two looks at the platform's list, and between two tries of a pool that boots
ASLEEP_AFTER_WINDOWS: Final = 2.0  # scale-down windows after which a pool that is still up is somebody's
ASLEEP_MARGIN_S: Final = 60.0
BOOT_AT_MOST_S: Final = 1800.0  # half as long again as the longest start-up that the documents name

# What a platform, or a proxy before a server that starts, says while no container is ready. Anything else, a refused
# connection too, ends the measurement at once.
_BOOTING: Final = frozenset({FailureClass.COLD, FailureClass.OVERLOADED})
_PROXY_STATUSES: Final = frozenset({502, 504})


@dataclass(frozen=True, slots=True)
class ColdStart:
    """The first answer of a pool that was asleep. Seconds from the first try.

    `asleep_by` says how it is known that it slept: `platform`, or `left alone` for a time, which proves nothing.
    `boot_s` is the container's own start to ready where the platform lists it (`boot_by` `platform`), else the first
    token's time less that of a warm pool (`first token`).
    """

    asleep_by: str
    left_alone_s: float
    tries: int
    first_token_s: float
    answer_s: float
    boot_s: float
    boot_by: str


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """The first whole answer, after `tries`; `began_us` is the instant of the first of them."""

    sample: Sample
    tries: int
    began_us: int


async def containers_of(platform: PoolPlatform, pool: str) -> tuple[ContainerInfo, ...]:
    """Containers of one pool alive now. Raises PlatformUnavailable."""
    return (await platform.containers()).get(pool, ())


async def until_asleep(
    subject: Subject,
    platform: PoolPlatform | None,
    wait_s: float | None,
    look_s: float,
    clock: Clock,
    stop: asyncio.Event,
) -> tuple[str, float]:
    """Wait for the pool's scale-down; how that is known, and the seconds waited.

    The platform's list is asked every `look_s` where there is one; else the pool is left alone for `wait_s`. The pool
    itself is never asked, which would keep it awake. Raises CannotMeasure, PlatformUnavailable and Stopped.
    """
    began_us = clock.mono_us()
    pool = subject.pool
    if platform is None or pool is None:
        if wait_s is None:
            raise CannotMeasure("nobody lists this pool's containers; say with --wait-s how long to leave it alone")
        if not await finished(clock.sleep(wait_s), stop):
            raise Stopped("interrupted while waiting for scale-down; nothing was measured")
        return "left alone", wait_s

    async def look() -> None:
        while await containers_of(platform, pool.name):
            waited_s = seconds(clock.mono_us() - began_us)
            if waited_s > limit_s:
                text = f"'{pool.name}' is still awake after {waited_s:.0f} s; somebody else uses it, or its"
                raise CannotMeasure(f"{text} scaledown_window_s is not {pool.scaledown_window_s:g}")
            await clock.sleep(look_s)

    limit_s = ASLEEP_AFTER_WINDOWS * pool.scaledown_window_s + ASLEEP_MARGIN_S if wait_s is None else wait_s
    if not await finished(look(), stop):
        raise Stopped("interrupted while waiting for scale-down; nothing was measured")
    return "platform", seconds(clock.mono_us() - began_us)


async def first_answer(asker: Asks, number: int, clock: Clock, stop: asyncio.Event) -> FirstAnswer:
    """Ask request `number` until the pool answers: a platform may refuse, or hold it, for as long as a container boots.

    Raises CannotMeasure for an answer that waiting will not mend, and Stopped.
    """
    began_us = clock.mono_us()
    samples: list[Sample] = []

    async def knock() -> None:
        while True:
            sample = await asker.ask(number)
            samples.append(sample)
            booting_s = seconds(clock.mono_us() - began_us)
            if not _boots(sample) or booting_s > BOOT_AT_MOST_S:
                return
            await clock.sleep(LOOK_S)

    if not await finished(knock(), stop):
        raise Stopped("interrupted before the first answer; nothing was measured")
    last = samples[-1]
    if last.failure is not None:
        tries = f"after {len(samples)} tries" if len(samples) > 1 else "at the first try"
        raise CannotMeasure(f"no first answer ({last.failure}: {last.detail}, {tries}); is the endpoint right, and up?")
    return FirstAnswer(last, len(samples), began_us)


def _boots(sample: Sample) -> bool:
    return sample.failure in _BOOTING or (
        sample.failure is FailureClass.UNAVAILABLE and sample.status in _PROXY_STATUSES
    )


def cold_start(
    asleep_by: str, left_alone_s: float, first: FirstAnswer, warm: Sample, listed: tuple[ContainerInfo, ...]
) -> ColdStart:
    """Put together what the first answer, a warm one after it and the platform's list say of the boot."""
    first_us = first.sample.first_us
    assert first_us is not None  # a whole answer has a first token
    first_token_s = seconds(first_us - first.began_us)
    booted = [one for one in listed if one.ready_us is not None]
    if booted:
        oldest = min(booted, key=lambda one: one.started_us)
        assert oldest.ready_us is not None
        boot_s, boot_by = (oldest.ready_us - oldest.started_us) / US_PER_S, "platform"
    else:
        boot_s, boot_by = max(0.0, first_token_s - seconds(warm.ttft_us or 0)), "first token"
    answer_s = seconds(first.sample.ended_us - first.began_us)
    return ColdStart(asleep_by, left_alone_s, first.tries, first_token_s, answer_s, boot_s, boot_by)
