"""An event loop on which time passes only when nothing else is left to do: minutes of waiting take no time at all."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, Final

from pricing.clock import US_PER_S

BEGAN_US: Final = 1_767_225_600 * US_PER_S  # 2026-01-01, wall time of every run's start


class _Skipping(selectors.SelectSelector):
    """Goes to the end of every wait at once. Nothing may depend on a socket or a thread."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits and nothing is scheduled: this run would never end")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` is virtual; callbacks run in the order of their instants."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s


class VirtualClock:
    """`pricing.clock.Clock` on a virtual loop."""

    speedup = 1.0

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def mono_us(self) -> int:
        return round(self._loop.time() * US_PER_S)

    def wall_us(self) -> int:
        return BEGAN_US + self.mono_us()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)


def run(main: Any) -> Any:
    """Run `main(loop)` on a virtual loop of its own and return what it returns."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()
