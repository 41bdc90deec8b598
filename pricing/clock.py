"""The clocks of the project. Every other module is handed one; none reads the time by itself.

Instants are integer microseconds: `wall_us` since the UNIX epoch (windows, rows, prices), `mono_us` since
an arbitrary start (durations, leases, deadlines). `ScaledClock` runs `speedup` times faster than life, so that
the endpoint and the simulated pools of the demo can live through minutes in seconds; `sleep` and `timeout`
take seconds of the clock's own time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

US_PER_S = 1_000_000


class Clock(Protocol):
    """What a module may ask of time."""

    speedup: float

    def wall_us(self) -> int: ...

    def mono_us(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...

    def timeout(self, seconds: float | None) -> asyncio.Timeout: ...


class ScaledClock:
    """The machine's clock, `speedup` times faster; 1.0 is real time.

    `origin_us` is the real instant at which this clock showed the real time (None: now). Processes that are given
    the same speedup and origin agree on the time, as far as the machine's own clock does not step between their starts.
    """

    def __init__(self, speedup: float = 1.0, origin_us: int | None = None) -> None:
        if speedup <= 0:
            raise ValueError(f"speedup must be above 0, not {speedup}")
        self.speedup = speedup
        self._mono0_ns = time.monotonic_ns()
        now_us = time.time_ns() // 1000
        origin_us = now_us if origin_us is None else origin_us
        self._wall0_us = origin_us + int((now_us - origin_us) * speedup)

    def mono_us(self) -> int:
        elapsed_ns = time.monotonic_ns() - self._mono0_ns
        return int(elapsed_ns * self.speedup) // 1000 if self.speedup != 1.0 else elapsed_ns // 1000

    def wall_us(self) -> int:
        return self._wall0_us + self.mono_us()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speedup)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Like `asyncio.timeout`, in seconds of this clock; None never ends."""
        return asyncio.timeout(None if seconds is None else seconds / self.speedup)


class SystemClock:
    """Real time. Wall time follows the machine's clock, so corrections by NTP are seen."""

    speedup = 1.0

    def mono_us(self) -> int:
        return time.monotonic_ns() // 1000

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)


class ManualClock:
    """Stands still until told; for tests and replay. `sleep` advances it at once."""

    speedup = 1.0

    def __init__(self, wall_us: int = 1_767_225_600 * US_PER_S) -> None:
        self._wall_us = wall_us
        self._mono_us = 0

    def mono_us(self) -> int:
        return self._mono_us

    def wall_us(self) -> int:
        return self._wall_us

    def advance(self, seconds: float) -> None:
        us = round(seconds * US_PER_S)
        self._mono_us += us
        self._wall_us += us

    def jump_wall(self, seconds: float) -> None:
        """Move wall time only, as an NTP step or an operator would."""
        self._wall_us += round(seconds * US_PER_S)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)
