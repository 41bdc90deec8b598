"""What a request waits for before it is sent: room in a pool that is full, or a container that boots.

Both end early when there is something else to decide: somebody has left a pool in whose line the request stands, or
what nobody tells of may have changed. Nothing is held meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pools.live.all_pools import LivePools
from pools.live.waiting_lines import Ticket
from pools.live.warmup import WarmUps
from router.serving.chain import Chain


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waits, as long as the request is not interrupted. Raises Interrupted."""

    live: LivePools
    warmups: WarmUps

    async def for_room(self, chain: Chain, lines: Iterable[str], left_s: float) -> None:
        """Until it may be this request's turn in one of the lines, or the time that is left is over."""
        with chain.interrupts.armed():
            await self.live.wait_for_room(_ticket(chain), lines, left_s)

    async def for_boot(self, chain: Chain, pool: str, lines: Iterable[str], left_s: float) -> bool:
        """The same, or until the pool has a container, which is woken if need be. False: the time is over."""
        loop = asyncio.get_running_loop()
        boot = loop.create_task(self.warmups.wait_ready(pool, left_s))
        room = loop.create_task(self.live.wait_for_room(_ticket(chain), lines, left_s))
        try:
            with chain.interrupts.armed():
                await asyncio.wait((boot, room), return_when=asyncio.FIRST_COMPLETED)
        finally:
            boot.cancel()
            room.cancel()
        return not boot.done() or boot.result()

    def leave(self, chain: Chain) -> None:
        """It waits no more: whoever is behind it in a line looks."""
        chain.booting = None
        if chain.ticket is not None:
            self.live.lines.leave(chain.ticket)


def _ticket(chain: Chain) -> Ticket:
    chain.ticket = chain.ticket or Ticket()
    return chain.ticket
