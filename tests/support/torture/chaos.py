"""What goes wrong in a torture run, drawn from its seed: replicas and Redis killed, wires cut and silent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
    _one_outage: asyncio.Lock = field(default_factory=asyncio.Lock)

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
        up = [one for one in self.replicas if one.number in self.urls]
        if len(up) < 2:
            return
        victim = draw.choice(up)
        del self.urls[victim.number]
        self.done["kill"] += 1
        await victim.kill()
        await asyncio.sleep(draw.uniform(0, 1))
        self.urls[victim.number] = await victim.start()

    async def outage(self, draw: random.Random) -> None:
        """Redis dies, and comes back with what its file holds."""
        async with self._one_outage:
            self.done["outage"] += 1
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(draw.uniform(0, 1.5))
            await asyncio.to_thread(self.server.start)

    async def cut(self, draw: random.Random) -> None:
        """A replica loses its connection in the midst of what it carries, or hears nothing for a while."""
        wire = draw.choice(self.replicas).wire
        self.done["cut"] += 1
        if draw.random() < 0.5:
            wire.cut()
        else:
            await wire.silence(draw.uniform(0.05, 1.2))
