"""The simulated platform's control plane, as an operator would use it: what is alive, what was billed, break a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from pricing.money import cost_nusd
from router.demo.processes import DemoFailed


@dataclass(frozen=True, slots=True)
class PoolsBill:
    """What one pool's provider asks for: container microseconds by phase × the rate of one container, but for phases
    that are `free`.
    """

    boot_us: int
    busy_us: int
    idle_us: int
    alive_us: int
    rate_nusd_per_h: int
    billed_nusd: int
    free: tuple[str, ...] = ()

    def phase_nusd(self, phase: str) -> int:
        """What boot or idle time costs."""
        duration_us = {"boot": self.boot_us, "idle": self.idle_us}[phase]
        return 0 if phase in self.free else cost_nusd(self.rate_nusd_per_h, duration_us)


_BILL = msgspec.json.Decoder(dict[str, PoolsBill])
_CONTAINERS = msgspec.json.Decoder(dict[str, list[Any]])


class Control:
    """Calls `/platform/…`. Raises DemoFailed when it does not answer as documented."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def alive(self) -> dict[str, int]:
        """Containers alive, of the pools that have any."""
        containers = _CONTAINERS.decode(await self._call("GET", "/platform/containers"))
        return {pool: len(found) for pool, found in containers.items() if found}

    async def bill(self) -> dict[str, PoolsBill]:
        """Every pool's bill until now."""
        return _BILL.decode(await self._call("GET", "/platform/bill"))

    async def fail(self, pool: str, fault: Mapping[str, Any]) -> None:
        """Give a pool a standing order to go wrong, see `pools.simulator.faults`."""
        await self._call("POST", f"/platform/pools/{pool}/fail", fault)

    async def _call(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> bytes:
        try:
            async with self._session.request(method, self._url + path, json=document) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DemoFailed(f"the simulated pools do not answer {method} {path}: {error}") from None
        if response.status != 200:
            raise DemoFailed(f"{method} {path}: status {response.status}: {body[:200].decode(errors='replace')}")
        return body
