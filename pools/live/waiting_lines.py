"""Who waits for room in which pool: first come, first served.

A request that finds no room joins the line of each pool that could serve it and takes its turn when it is first in one
of them. Whoever leaves a pool wakes the first of that pool's line alone, and whoever leaves a line wakes the next, so
that room for several is handed on. One that arrives while others wait may use any pool but those: it would overtake
them, and a large request would wait for ever behind small ones. The price is that small ones wait behind a large one
until its room is there. All of it belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

_NOBODY: Final[Mapping[str, int]] = {}


class Ticket:
    """One request's place in the lines. `woken` is set when it should look again."""

    __slots__ = ("pools", "woken")

    def __init__(self) -> None:
        self.pools: tuple[str, ...] = ()
        self.woken = asyncio.Event()


class WaitingLines:
    """The lines of all pools."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[Ticket, None]] = {}  # never an empty line

    def __len__(self) -> int:
        """Requests that wait; one in several lines counts once."""
        return len({ticket for line in self._lines.values() for ticket in line})

    def ahead_of(self, ticket: Ticket | None) -> Mapping[str, int]:
        """The pools in whose lines others come first, and how many they are. None: somebody who has just come."""
        if not self._lines:
            return _NOBODY
        before = {pool: _before(ticket, line) for pool, line in self._lines.items()}
        return {pool: count for pool, count in before.items() if count}

    def is_first(self, ticket: Ticket) -> bool:
        """In one of its lines."""
        return any(next(iter(self._lines[pool])) is ticket for pool in ticket.pools)

    def waiting(self, pools: Iterable[str]) -> bool:
        """Whether anybody waits for one of these pools."""
        return any(pool in self._lines for pool in pools)

    def join(self, ticket: Ticket, pools: Iterable[str]) -> None:
        """Wait for these pools: places that the ticket has are kept, those in other lines given up."""
        wanted = tuple(pools)
        for pool in ticket.pools:
            if pool not in wanted:
                self._give_up(ticket, pool)
        for pool in wanted:
            self._lines.setdefault(pool, {}).setdefault(ticket)
        ticket.pools = wanted

    def leave(self, ticket: Ticket) -> None:
        """It found room, or gave up. May be called again."""
        for pool in ticket.pools:
            self._give_up(ticket, pool)
        ticket.pools = ()

    def wake(self, pool: str) -> None:
        """There may be room in the pool: its first looks."""
        line = self._lines.get(pool)
        if line is not None:
            next(iter(line)).woken.set()

    def wake_all_first(self) -> None:
        """Something changed about containers: the first of every line looks."""
        for pool in self._lines:
            self.wake(pool)

    def _give_up(self, ticket: Ticket, pool: str) -> None:
        line = self._lines[pool]
        was_first = next(iter(line)) is ticket
        del line[ticket]
        if not line:
            del self._lines[pool]
        elif was_first:
            self.wake(pool)


def _before(ticket: Ticket | None, line: Mapping[Ticket, None]) -> int:
    return len(line) if ticket is None or ticket not in line else list(line).index(ticket)
