"""What runs beside the requests for as long as a service does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from pricing.clock import Clock
from pricing.errors import StoreUnavailable


class Loops:
    """A fault of ours ends its loop, and `dead` names it, so that the process does not go on looking healthy.

    `on_trouble` is told where a step could not reach the store; the step is taken again when its time comes.
    """

    def __init__(self, clock: Clock, on_trouble: Callable[[StoreUnavailable], None]) -> None:
        self._clock = clock
        self._on_trouble = on_trouble
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, name: str, endless: Coroutine[None, None, None]) -> None:
        """Run what never ends by itself."""
        self._tasks.append(asyncio.create_task(endless, name=name))

    def every(self, name: str, period_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step again and again, `period_s` of the clock after it has ended."""
        self.run(name, self._repeat(period_s, step))

    @property
    def dead(self) -> list[str]:
        return [task.get_name() for task in self._tasks if task.done()]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, period_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(period_s)
            try:
                await step()
            except StoreUnavailable as trouble:
                self._on_trouble(trouble)
