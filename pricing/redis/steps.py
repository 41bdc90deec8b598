"""Runs scripts for one replica: on its namespace's keys, at the server's time, with caps for the right months."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from pricing.clock import Clock
from pricing.redis.client import RedisClient, evalsha_head
from pricing.redis.connection import Word, bulk
from pricing.redis.keys import prefix_of
from pricing.redis.packing import CapPacker, PackedCaps
from pricing.redis.scripts import Script, script

Reply: TypeAlias = list[Any]
_SERVERS_TIME: Final = bulk(b"")


class Steps:
    """`now` gives the wall time that scripts are to use, for tests and scaled clocks; None: the server's own."""

    def __init__(self, client: RedisClient, namespace: str, clock: Clock, now: Callable[[], int] | None) -> None:
        self.client = client
        self.prefix = prefix_of(namespace)
        self._keys = (self.prefix,)
        self._begun: dict[tuple[str, int], tuple[Script, bytes]] = {}
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
        return await self.client.evalsha(script(name), self._keys, (self._time(), *args))

    async def bare(self, name: str, *args: Word) -> Any:
        """A script that does not ask for the time."""
        return await self.client.evalsha(script(name), self._keys, args)

    async def step(
        self, name: str, packer: CapPacker, caps: Sequence[PackedCaps], words: int, parts: Iterable[bytes]
    ) -> Reply:
        """A script that takes the time and so many words more, given in parts as the protocol has them; the words of
        these caps are parts. It is run again where its clock has left the months that came with the caps.
        """
        which, head = self._begun.get((name, words)) or self._begin(name, words)
        reply: Reply = await self.client.run(which, (head, self._time_word(), *parts))
        while reply[0] == b"month":
            packer.months_around(reply[1])
            renewed = {each.word: packer.encode(each.scopes, each.seen) for each in caps}
            parts = [renewed.get(part, part) for part in parts]
            reply = await self.client.run(which, (head, self._time_word(), *parts))
        return reply

    def heard(self, server_us: int, mono_us: int | None = None) -> None:
        """A reply told the server's time; it came at `mono_us`, None: just now."""
        self._heard = (server_us, self._clock.mono_us() if mono_us is None else mono_us)

    def _begin(self, name: str, words: int) -> tuple[Script, bytes]:
        """A script, and what comes before its arguments, of which time is the first."""
        which = script(name)
        begun = self._begun[name, words] = (which, evalsha_head(which, self._keys, 1 + words))
        return begun

    def _time(self) -> Word:
        return b"" if self._now is None else self._now()

    def _time_word(self) -> bytes:
        return _SERVERS_TIME if self._now is None else bulk(self._now())
