"""What runs beside the requests for as long as a service does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from pricing.clock import Clock
from pricing.errors import StoreUnavailable
from router.telemetry.log import LOGGER


class Loops:
    """A fault of ours ends its loop, the log has its trace, and `dead` names it, so that the process does not go on
    looking healthy.

    `on_trouble` is told where a step could not reach the store; the step is taken again when its time comes.
    """

    def __init__(self, clock: Clock, on_trouble: Callable[[StoreUnavailable], None]) -> None:
        self._clock = clock
        self._on_trouble = on_trouble
        self._endless: list[asyncio.Task[None]] = []
        self._ending: list[asyncio.Task[None]] = []

    def run(self, name: str, endless: Coroutine[None, None, None]) -> None:
        """Run what never ends by itself."""
        self._endless.append(_watched(name, endless))

    def once(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run what ends by itself, and what a service can do without: of a fault in it, only the log has the trace."""
        self._ending.append(_watched(name, work))

    def every(self, name: str, period_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step again and again, `period_s` of the clock after it has ended."""
        self.run(name, self._repeat(period_s, step))

    @property
    def dead(self) -> list[str]:
        return [task.get_name() for task in self._endless if task.done()]

    async def stop(self) -> None:
        tasks = (*self._endless, *self._ending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, period_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(period_s)
            try:
                await step()
            except StoreUnavailable as trouble:
                self._on_trouble(trouble)


def _watched(name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_of_fault)
    return task


def _tell_of_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        LOGGER.error("work beside the requests died", exc_info=fault, extra={"fields": {"loop": task.get_name()}})
