"""The clients of a torture run: they ask any replica that is up, note what they were told, and never ask twice.

A request that is refused because the store is down is not of the run: how many of those fit into an outage depends on
the machine. Its client asks something else a moment later.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp

from support.torture.scene import Size, Tenant

STORE_DOWN_PAUSE_S = 0.5


class Told(NamedTuple):
    """What a client was told that its answer costs, by which replica, and when on the machine's monotonic clock."""

    tenant: str
    nusd: int
    replica: int
    at_s: float


@dataclass
class Load:
    """`urls` holds the replicas that can be asked just now; whoever kills one takes it out."""

    size: Size
    cast: Sequence[Tenant]
    seed: int
    urls: dict[int, str]
    told: dict[str, Told] = field(default_factory=dict)  # by request id
    outcomes: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    _moments: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    async def until(self, share: float) -> None:
        """Wait until that share of all requests has ended."""
        count, event = int(share * self.size.requests), asyncio.Event()
        if self.ended < count:
            self._moments.append((count, event))
            await event.wait()

    async def run(self) -> None:
        """Ask until `size.requests` have ended, `size.clients` at a time."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(self._client(number, session) for number in range(self.size.clients)))

    async def _client(self, number: int, session: aiohttp.ClientSession) -> None:
        draw = random.Random(f"{self.seed}:{number}")
        shares = [one.share for one in self.cast]
        while self.ended < self.size.requests:
            if not self.urls:
                await asyncio.sleep(0.05)
                continue
            [tenant] = draw.choices(self.cast, shares)
            replica = draw.choice(sorted(self.urls))
            try:
                outcome = await self._ask(session, draw, tenant, replica)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                outcome = f"lost: {type(error).__name__}"
            self.outcomes[outcome] += 1
            if outcome == "store_unavailable":
                await asyncio.sleep(STORE_DOWN_PAUSE_S)
            else:
                self._count()
            await asyncio.sleep(draw.uniform(0, self.size.pause_s))

    def _count(self) -> None:
        self.ended += 1
        for count, event in self._moments:
            if count <= self.ended:
                event.set()

    async def _ask(self, session: aiohttp.ClientSession, draw: random.Random, tenant: Tenant, replica: int) -> str:
        """One request; what became of it, in a word or two."""
        tokens = draw.randint(2, 40)
        stream = draw.random() < 0.5
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": "x" * draw.randint(1, 400)}],
            "max_tokens": tokens,
            "sim_output_tokens": tokens,
            **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
        }
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with session.post(f"{self.urls[replica]}/v1/chat/completions", json=body, headers=headers) as reply:
            if reply.status == 200 and draw.random() < 0.05:
                return "left"  # in the middle of the answer
            text = await reply.read()
        if reply.status != 200:
            return str(json.loads(text)["error"]["code"])
        if stream and not text.endswith(b"data: [DONE]\n\n"):
            return str(json.loads(text.split(b"data: ")[-1])["error"]["code"])
        usage = json.loads(text.split(b"data: ")[-2] if stream else text)["usage"]
        told = Told(tenant.name, round(usage["cost"] * 10**9), replica, time.monotonic())
        self.told[reply.headers["x-sluice-request-id"]] = told
        return "answered"
