"""What goes wrong in a torture run, drawn from its seed: replicas and Redis killed, wires cut and silent."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from router.demo.processes import Child
from support.real_redis import RedisServer
from support.torture.scene import Size
from support.torture.wire import Wire


@dataclass
class Replica:
    """One `sluice serve`, with a wire of its own to Redis; it can be killed and started again."""

    number: int
    wire: Wire
    folder: Path
    environ: Mapping[str, str]
    child: Child | None = None

    async def start(self) -> str:
        """Its address, once it listens."""
        arguments = ["--policy", str(self.folder / "policy.yaml"), "--port", "0", "--log-level", "warning"]
        own = self.folder / f"replica{self.number}"
        own.mkdir(exist_ok=True)
        self.child = await Child.start("serve", arguments, own, self.environ)
        return self.child.url

    async def kill(self) -> None:
        """kill -9."""
        if self.child is not None:
            await self.child.kill()
            self.child = None

    async def stop(self) -> None:
        """As an operator would."""
        if self.child is not None:
            await self.child.stop()
            self.child = None


READ_WITHIN_S: Final = 1.0  # a client may read what was said before the death a little after it
BACK_WITHIN_S: Final = 10.0  # a replica asks a store that is down again after 2 s at most, and may be slow to


@dataclass
class Chaos:
    """`urls` is what clients may ask; `until` waits for a share of the run, from 0 to 1, to be over."""

    size: Size
    seed: int
    replicas: list[Replica]
    server: RedisServer
    urls: dict[int, str]
    until: Callable[[float], Awaitable[None]]
    done: Counter[str] = field(default_factory=Counter)
    deaths: list[tuple[int, float]] = field(default_factory=list)  # replica, when it was killed
    troubles: list[tuple[float, float]] = field(default_factory=list)  # when Redis, or a wire to it, was away
    _one_outage: asyncio.Lock = field(default_factory=asyncio.Lock)
    _back: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Each mishap at its moment of the run; two may be under way at once."""
        draw = random.Random(self.seed)
        kinds = ["kill"] * self.size.kills + ["outage"] * self.size.outages + ["cut"] * self.size.cuts
        moments = sorted((draw.uniform(0.05, 0.9), kind) for kind in kinds)
        async with asyncio.TaskGroup() as group:
            for moment, kind in moments:
                await self.until(moment)
                group.create_task(getattr(self, kind)(random.Random(f"{self.seed}:{moment}")))

    async def kill(self, draw: random.Random) -> None:
        """A replica dies with all that it runs, and another takes its place. One is always left."""
        while len(up := [one for one in self.replicas if one.number in self.urls]) < 2:
            self._back.clear()
            await self._back.wait()
        victim = draw.choice(up)
        del self.urls[victim.number]
        self.done["kill"] += 1
        self.deaths.append((victim.number, time.monotonic()))
        await victim.kill()
        await asyncio.sleep(draw.uniform(0, 1))
        self.urls[victim.number] = await victim.start()
        self._back.set()

    async def outage(self, draw: random.Random) -> None:
        """Redis dies, and comes back with what its file holds."""
        async with self._one_outage:
            self.done["outage"] += 1
            began_s = time.monotonic()
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(draw.uniform(0, 1.5))
            await asyncio.to_thread(self.server.start)
            self.troubles.append((began_s, time.monotonic()))

    async def cut(self, draw: random.Random) -> None:
        """A replica loses its connection in the midst of what it carries, or hears nothing for a while."""
        wire = draw.choice(self.replicas).wire
        self.done["cut"] += 1
        began_s = time.monotonic()
        if draw.random() < 0.5:
            wire.cut()
        else:
            await wire.silence(draw.uniform(0.05, 1.2))
        self.troubles.append((began_s, time.monotonic()))

    def may_have_lost(self, replica: int, at_s: float) -> bool:
        """Whether what a replica has told at that instant was kept in its memory only when it was killed: an answer may
        end while its store is down, and is written when that is back.
        """
        return any(
            began_s <= at_s <= died_s + READ_WITHIN_S and died_s <= over_s + BACK_WITHIN_S
            for victim, died_s in self.deaths
            for began_s, over_s in self.troubles
            if victim == replica
        )
