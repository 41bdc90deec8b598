"""What is seen while the demo plays: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pricing.clock import US_PER_S, Clock
from router.demo.load import Outcome
from router.demo.plan import PlannedRequest
from router.demo.verdict import Verdict

BAR_EVERY_S: Final = 0.2  # real seconds between two pictures of the bar
WIDE: Final = 100  # columns: less has room for a short bar alone
LINE_EVERY_S: Final = 5.0  # and between two lines where there is no terminal


class Traffic:
    """Counts what was sent and what came back, and draws it. `clock` says how far the simulated time is."""

    def __init__(self, screen: Console, clock: Clock, total: int) -> None:
        self._screen = screen
        self._clock = clock
        self._total = total
        self._began_us = clock.mono_us()
        self._sent = 0
        self._verdicts: Counter[Verdict] = Counter()

    def sent(self, _: PlannedRequest) -> None:
        self._sent += 1

    def ended(self, outcome: Outcome) -> None:
        self._verdicts[outcome.judged.verdict] += 1

    @asynccontextmanager
    async def drawn(self) -> AsyncIterator[None]:
        """Draw for as long as the block runs, and once more at its end."""
        drawing = asyncio.create_task(self._bar() if self._screen.is_terminal else self._lines())
        try:
            yield
        finally:
            drawing.cancel()
            with suppress(asyncio.CancelledError):
                await drawing

    async def _bar(self) -> None:
        done = TextColumn("{task.completed}/{task.total}")
        counts = TextColumn("{task.fields[counts]}")
        wide = (BarColumn(bar_width=24), done) if self._screen.width >= WIDE else (BarColumn(bar_width=8),)
        columns = (TextColumn("{task.fields[at]}"), *wide, counts)
        with Progress(*columns, console=self._screen, auto_refresh=False) as progress:
            bar = progress.add_task("traffic", total=self._total, at="", counts="")
            try:
                while True:
                    progress.update(bar, completed=self._ended, at=self._at, counts=self._counts, refresh=True)
                    await asyncio.sleep(BAR_EVERY_S)
            finally:
                progress.update(bar, completed=self._ended, at=self._at, counts=self._counts, refresh=True)

    async def _lines(self) -> None:
        try:
            while True:
                await asyncio.sleep(LINE_EVERY_S)
                self._line()
        finally:
            self._line()

    def _line(self) -> None:
        self._screen.print(f"{self._at}  {self._ended:>5,} of {self._total:,}: {self._counts}")

    @property
    def _ended(self) -> int:
        return self._verdicts.total()

    @property
    def _at(self) -> str:
        minutes, seconds = divmod((self._clock.mono_us() - self._began_us) // US_PER_S, 60)
        return f"{minutes:>2}:{seconds:02}"

    @property
    def _counts(self) -> str:
        counts = [f"{self._verdicts[verdict]:,} {verdict}" for verdict in Verdict]
        return ", ".join([*counts, f"{self._sent - self._ended} in flight"])
