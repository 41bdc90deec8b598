"""Runs scripts for one replica: on its namespace's keys, at the server's time, with caps for the right months."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pricing.clock import Clock
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.keys import prefix_of
from pricing.redis.packing import CapPacker, PackedCaps
from pricing.redis.scripts import script

Reply: TypeAlias = list[Any]


class Steps:
    """`now` gives the wall time that scripts are to use, for tests and scaled clocks; None: the server's own."""

    def __init__(self, client: RedisClient, namespace: str, clock: Clock, now: Callable[[], int] | None) -> None:
        self.client = client
        self.prefix = prefix_of(namespace)
        self._keys = (self.prefix,)
        self._clock = clock
        self._now = now
        self._heard: tuple[int, int] | None = None  # the server's time, and the monotonic time at which it was told

    def now_us(self) -> int:
        """The server's time, as far as can be told from its last reply."""
        if self._heard is None:
            return self._clock.wall_us()
        server_us, mono_us = self._heard
        return server_us + self._clock.mono_us() - mono_us

    async def run(self, name: str, *args: Word) -> Any:
        """A script that takes the time and no caps."""
        return await self.client.evalsha(script(name), self._keys, (self._given(), *args))

    async def bare(self, name: str, *args: Word) -> Any:
        """A script that does not ask for the time."""
        return await self.client.evalsha(script(name), self._keys, args)

    async def step(self, name: str, packer: CapPacker, caps: Sequence[PackedCaps], *args: Word) -> Reply:
        """A script that takes the time and, somewhere in `args`, these caps. It is run again where its clock has left
        the months that came with them.
        """
        reply: Reply = await self.client.evalsha(script(name), self._keys, (self._given(), *args))
        while reply[0] == b"month":
            packer.months_around(reply[1])
            renewed: dict[Word, Word] = {each.packed: packer.encode(each.scopes, each.seen) for each in caps}
            args = tuple(renewed.get(arg, arg) for arg in args)
            reply = await self.run(name, *args)
        return reply

    def heard(self, server_us: int) -> None:
        """A reply told the server's time."""
        self._heard = (server_us, self._clock.mono_us())

    def _given(self) -> Word:
        return b"" if self._now is None else self._now()
