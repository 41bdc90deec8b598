"""`GET /v1/pools`: the pools that a key's classes may use; `GET /v1/key`: whose key this is, and what it may do."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response

from pricing.clock import US_PER_S
from pricing.ledger.recent import pools_lately
from router.http.replies import reply, viewer_of
from router.service.service import Service
from router.views.pool_list import WINDOW_S, ladders_of, pool_json


def add_pool_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/pools")
    async def pools(request: Request) -> Response:
        """Wakes nothing: what is not known is null."""
        viewer = viewer_of(service, request)
        policy, now_us = service.policy, service.clock.wall_us()
        since_us = now_us - WINDOW_S * US_PER_S
        lately = await asyncio.to_thread(pools_lately, service.settings.ledger, since_us, now_us + 1)
        states = service.live.states()
        ladders = ladders_of(policy, None if viewer.is_admin else viewer.classes)
        data = [
            pool_json(policy.pools[name], tiers, service.meters.rate(name), states[name], lately.get(name))
            for name, tiers in ladders.items()
        ]
        return reply({"object": "list", "data": data})

    @app.get("/v1/key")
    async def key(request: Request) -> Response:
        """`classes` null: every class."""
        viewer = viewer_of(service, request)
        return reply(
            {
                "object": "key",
                "id": viewer.key_id,
                "tenant": viewer.tenant,
                "rights": sorted(viewer.rights),
                "classes": None if viewer.classes is None else sorted(viewer.classes),
                "tags": list(viewer.tags),
            }
        )
