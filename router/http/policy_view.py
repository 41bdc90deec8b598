"""`GET /v1/policy`: what is in force, from which files, since when, and what changed. For admins."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from router.http.replies import reply, viewer_of
from router.inbound.callers import ADMIN
from router.service.service import Service
from router.views.policy_view import policy_json


def add_policy_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/policy")
    async def policy(request: Request) -> Response:
        viewer_of(service, request).require(ADMIN)
        return reply(await asyncio.to_thread(_answer, service))


def _answer(service: Service) -> dict[str, Any]:
    now, last = service.reloader.editions()
    return policy_json(now, service.history.before(now, last), service.reloader.state())
