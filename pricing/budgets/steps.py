"""Steps on their way from the event loop to the file and back: who waits, and how to take a step back.

Steps are written in the order in which they were submitted. When a commit fails, neither its steps nor any later one is
in the file, so all of them are undone in memory, the latest first, and their waiters get StoreUnavailable.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pricing.budgets.journal import Change, Journal, JournalEnded
from pricing.errors import StoreUnavailable

Undo = Callable[[], None]


@dataclass(slots=True, eq=False)
class _Step:
    done: asyncio.Future[None]
    undo: Sequence[Undo]


class StepLog:
    """Belongs to the event loop that first submits a step; owns the journal and its thread."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        """`name` is the file's, for messages."""
        self._name = name
        self._steps: deque[_Step] = deque()
        self._epoch = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._journal = Journal(connection, self._from_thread_written, self._from_thread_failed)

    def submit(self, change: Change, undo: Sequence[Undo] = ()) -> asyncio.Future[None]:
        """Hand a step over. The future ends when it is committed, or raises StoreUnavailable once it was undone."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        change.epoch = self._epoch
        step = _Step(self._loop.create_future(), undo)
        self._steps.append(step)
        self._journal.put(change)
        return step.done

    async def aclose(self) -> None:
        """Write what was submitted, then end the thread."""
        await asyncio.to_thread(self._journal.stop)
        await asyncio.sleep(0)  # the thread's last word is already scheduled; let it arrive

    def _from_thread_written(self, changes: Sequence[Change]) -> None:
        self._schedule(self._written, len(changes))

    def _from_thread_failed(self, epoch: int, error: Exception) -> None:
        self._schedule(self._failed, epoch, error)

    def _schedule(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            return  # nothing was ever submitted
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop was closed without `aclose`: nobody waits any more

    def _written(self, count: int) -> None:
        for _ in range(count):
            step = self._steps.popleft()
            if not step.done.done():
                step.done.set_result(None)

    def _failed(self, epoch: int, error: Exception) -> None:
        self._epoch = epoch
        steps = list(self._steps)
        self._steps.clear()
        for step in reversed(steps):
            for undo in reversed(step.undo):
                undo()
        for step in steps:
            if not step.done.done():
                step.done.set_exception(self._unavailable(error))
                step.done.exception()  # marks it as seen: a step that nobody awaits is not worth a warning

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, JournalEnded):
            return StoreUnavailable(f"ledger {self._name} is not written any more: {error}")
        reason = str(error) or type(error).__name__  # no memory has no words
        locked = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY  # the rest says how it is locked
        advice = "end the program that writes into it" if locked else "make room"
        return StoreUnavailable(f"ledger {self._name} cannot be written: {reason}; {advice}, nothing was changed")
