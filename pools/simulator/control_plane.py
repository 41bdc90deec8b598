"""The control plane: who is alive, what was billed, wake a pool, and the switches that break one.

GET    /platform/containers              {pool: [{id, state, started_us, ready_us}]}, those alive
GET    /platform/bill                    {pool: {boot_us, busy_us, idle_us, alive_us, rate_nusd_per_h, billed_nusd, and
                                         which phases are free}}
POST   /platform/pools/<name>/wake       start one container unless one is alive
POST   /platform/pools/<name>/fail       a fault, see `faults.Fault`
DELETE /platform/pools/<name>/fail       no faults any more
POST   /platform/pools/<name>/down, up   take the pool away with all that runs in it, and bring it back
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from pools.simulator.faults import BadFault, parse_fault
from pools.simulator.live import LivePools
from pools.simulator.pages import answer
from pools.simulator.pool import Container, SimulatedPool


class ControlPlane:
    """Answers requests to `/platform/…`. It never wakes a pool by being asked about one."""

    def __init__(self, live: LivePools) -> None:
        self._live = live

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if request.method == "GET" and path == "/containers":
            return answer(self._containers())
        if request.method == "GET" and path == "/bill":
            return answer(self.bill())
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "pools":
            return _problem(404, "unknown path; see docs/simulator.md")
        pool = self._live.pools.get(parts[2])
        if pool is None:
            known = ", ".join(sorted(self._live.pools))
            return _problem(404, f"no pool '{parts[2]}'; pools: {known}")
        raw = await request.content.read()
        return self._act(pool, request.method, parts[3], raw)

    def bill(self) -> dict[str, dict[str, int]]:
        """Every pool's bill until now."""
        now_us = self._live.now_us()
        return {name: pool.bill(now_us).as_json() for name, pool in self._live.pools.items()}

    def _containers(self) -> dict[str, list[dict[str, Any]]]:
        now_us = self._live.now_us()
        return {
            name: [_container(container) for container in pool.containers(now_us)]
            for name, pool in self._live.pools.items()
        }

    def _act(self, pool: SimulatedPool, method: str, verb: str, raw: bytes) -> web.Response:
        now_us = self._live.now_us()
        match method, verb:
            case "POST", "wake":
                return answer({"started": pool.wake(now_us)})
            case "POST", "fail":
                return _fail(pool, raw)
            case "DELETE", "fail":
                pool.faults.clear()
            case "POST", "down":
                pool.take_down(now_us)
                self._live.ring_all()
            case "POST", "up":
                pool.bring_up(now_us)
            case _:
                return _problem(404, "unknown path or method; see docs/simulator.md")
        return answer({})


def _fail(pool: SimulatedPool, raw: bytes) -> web.Response:
    try:
        pool.faults.add(parse_fault(json.loads(raw)))
    except ValueError:
        return _problem(400, "the body is not JSON")
    except BadFault as error:
        return _problem(400, str(error))
    return answer({})


def _container(container: Container) -> dict[str, Any]:
    return {
        "id": container.id,
        "state": "ready" if container.ready else "booting",
        "started_us": container.started_us,
        "ready_us": container.ready_us if container.ready else None,
    }


def _problem(status: int, message: str) -> web.Response:
    return answer({"error": message}, status)
