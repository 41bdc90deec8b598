"""One process, any number of simulated pools, real HTTP."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aiohttp import web

from pools.simulator.bill import Phase
from pools.simulator.control_plane import ControlPlane
from pools.simulator.data_plane import DataPlane
from pools.simulator.engine import EngineSettings
from pools.simulator.live import LivePools
from pools.simulator.pages import not_found
from pools.simulator.pool import SimulatedPool
from pools.spec import PoolSpec
from pricing.clock import Clock

BACKLOG = 1024
NOTHING_FREE: Final[Mapping[str, frozenset[Phase]]] = MappingProxyType({})
SHUTDOWN_S = 0.2  # real seconds that requests under way get; those that hang would wait for ever


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """What all pools share. `keep_alive_s` is vLLM's `--sse-keep-alive-interval`, off by default as there."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    keep_alive_s: float | None = None


class SimulatedPools:
    """Pools that answer like vLLM behind a serverless platform, until `stop`.

    `rates` holds each pool's price of one container in nano-dollars per hour, `free` the phases that it does not bill,
    by pool. What is drawn (how far each pool is
    from the base figures, boots, which requests a fault by rate hits) follows from `seed` and the pool's name.
    """

    def __init__(
        self,
        specs: Iterable[PoolSpec],
        rates: Mapping[str, int],
        clock: Clock,
        seed: int = 0,
        settings: SimulatorSettings | None = None,
        free: Mapping[str, frozenset[Phase]] = NOTHING_FREE,
    ) -> None:
        self.settings = settings or SimulatorSettings()
        origin_us = clock.wall_us() - clock.mono_us()
        now_us = origin_us + clock.mono_us()
        self.pools: Mapping[str, SimulatedPool] = {
            spec.name: SimulatedPool(
                spec,
                rates[spec.name],
                random.Random(f"{seed}/{spec.name}"),
                self.settings.engine,
                now_us,
                free.get(spec.name, frozenset()),
            )
            for spec in specs
        }
        self._live = LivePools(self.pools, clock, origin_us)
        self._data = DataPlane(self._live, random.Random(seed), self.settings.keep_alive_s)
        self._control = ControlPlane(self._live)
        self._runner: web.ServerRunner | None = None
        self.base_url = ""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; port 0 takes a free one. Returns the base URL, without a slash at its end."""
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=BACKLOG).start()
        bound = self._runner.addresses[0][1]
        self.base_url = f"http://{host}:{bound}"
        return self.base_url

    async def stop(self) -> None:
        """Stop listening and cut what is still running."""
        self._live.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def pool_url(self, name: str) -> str:
        """Where a pool answers; a client's base URL is this plus `/v1`."""
        return f"{self.base_url}/pools/{name}"

    def bill(self) -> dict[str, dict[str, int]]:
        """What `GET /platform/bill` answers."""
        return self._control.bill()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith("/platform/"):
            return await self._control.handle(request, path.removeprefix("/platform"))
        name, slash, rest = path.removeprefix("/pools/").partition("/")
        pool = self.pools.get(name)
        if pool is None or not path.startswith("/pools/"):
            return not_found()
        return await self._data.handle(request, pool, slash + rest)
