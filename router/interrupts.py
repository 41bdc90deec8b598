"""Ending a request's wait from outside: the client left, its budget ran out, the process stops.

A request waits on its pool or its client inside `armed()`. An interruption cancels exactly that wait and arrives there
as `Interrupted`; outside of it, money is being written and nothing may cut in, so the interruption is kept until
the next wait begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Self


class Cause(StrEnum):
    CLIENT_GONE = "client_gone"
    CUT = "cut"
    STORE_DOWN = "store_down"  # no more money can be set aside
    SHUTDOWN = "shutdown"
    FAULT = "fault"  # of the router itself


class Interrupted(BaseException):
    """Raised in place of the cancelled wait. A BaseException, as CancelledError is, so that nothing swallows it."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause


class Interrupts:
    """The interruptions of one request; made by the task that serves it.

    It is its own context manager, which costs a fifth of one made from a generator; `armed()` gives it its name.
    """

    __slots__ = ("_armed", "_task", "cause")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._armed = False
        self.cause: Cause | None = None

    def interrupt(self, cause: Cause) -> None:
        """Ask the request to stop. The first cause wins."""
        if self.cause is not None:
            return
        self.cause = cause
        if self._armed and self._task is not None:
            self._task.cancel()

    def armed(self) -> Self:
        """Let an interruption end what is awaited inside. Raises Interrupted."""
        return self

    def __enter__(self) -> None:
        if self.cause is not None:
            raise Interrupted(self.cause)
        self._armed = True

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, trace: object) -> None:
        self._armed = False
        cause = self.cause
        if cause is not None and self._task is not None and isinstance(raised, asyncio.CancelledError):
            self._task.uncancel()
            raise Interrupted(cause) from None


class Ongoing:
    """The requests under way, those that wait for a pool too: a stop waits for them, and then ends them."""

    def __init__(self) -> None:
        self._interrupts: set[Interrupts] = set()

    def __len__(self) -> int:
        return len(self._interrupts)

    @contextmanager
    def request(self, interrupts: Interrupts) -> Iterator[None]:
        """Around everything that one request does."""
        self._interrupts.add(interrupts)
        try:
            yield
        finally:
            self._interrupts.discard(interrupts)

    def interrupt_all(self, cause: Cause) -> None:
        for interrupts in list(self._interrupts):
            interrupts.interrupt(cause)
