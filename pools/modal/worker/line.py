"""Who is here, and whose turn it is: one request runs, the others wait, and no more than a bound are taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Final

LOOK_S: Final = 0.5
"""How often whoever waits is looked at: is its client still there?"""

Gone = Callable[[], bool]
"""Whether the client of a request has left."""


class Busy(Exception):
    """There is no place in the line, or the server ends."""


class ClientLeft(Exception):
    """Nobody would hear the answer."""


class Line:
    """`most` requests may be here, one of them runs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._here = 0
        self._running = False
        self._closed = False
        self._changed = Condition()

    @contextmanager
    def place(self) -> Iterator[None]:
        """From before a request's body is read to the last byte of its answer. Raises Busy."""
        with self._changed:
            if self._closed or self._here >= self._most:
                raise Busy("the server ends" if self._closed else f"{self._here} requests are here already")
            self._here += 1
        try:
            yield
        finally:
            with self._changed:
                self._here -= 1
                self._changed.notify_all()

    @contextmanager
    def turn(self, gone: Gone) -> Iterator[None]:
        """While the GPU works. Raises Busy where the server ends before it came, ClientLeft where the client did."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._closed or not self._running, LOOK_S):
                if gone():
                    raise ClientLeft
            if self._closed:
                raise Busy("the server ends")
            self._running = True
        try:
            yield
        finally:
            with self._changed:
                self._running = False
                self._changed.notify_all()

    def close(self) -> None:
        """Take nobody any more; return when all answers are written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._here == 0)
