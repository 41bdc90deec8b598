"""`GET /v1/decisions`: the newest requests, and `/v1/decisions/stream`: those that end from now on, as they end.

Whose: a key sees its tenant's, an admin key all of them. The list reads the ledger; the stream tells what this replica
serves and, with replicas, what the others tell it, as server-sent events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from pricing.ledger.recent import Recent, recent
from router.errors import ApiError
from router.http.parameters import check_parameters
from router.http.replies import reply, viewer_of
from router.service.service import Service
from router.views.recent import recent_json

PAGE: Final = 20
PAGE_AT_MOST: Final = 100
QUIET_S: Final = 15.0  # after which a comment keeps the connection in use, and the key is looked at again


def add_decision_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/decisions")
    async def decisions(request: Request, limit: int = PAGE, after: str | None = None, moved: bool = False) -> Response:
        """Newest first; `after` is the last id of the page before, `moved` asks for those of several attempts."""
        viewer = viewer_of(service, request)
        check_parameters(request, ("limit", "after", "moved"))
        if not 1 <= limit <= PAGE_AT_MOST:
            raise ApiError("invalid_value", f"limit {limit} is not between 1 and {PAGE_AT_MOST}", param="limit")
        tenant = None if viewer.is_admin else viewer.tenant
        place = service.settings.ledger
        try:
            # One more than asked for says whether another page follows.
            found = await asyncio.to_thread(recent, place, limit + 1, tenant=tenant, after=after, moved=moved)
        except ValueError as error:
            raise ApiError("invalid_value", str(error), param="after") from None
        page = [recent_json(one) for one in found[:limit]]
        ends = {"first_id": page[0]["request_id"], "last_id": page[-1]["request_id"]} if page else {}
        return reply({"object": "list", "data": page, **ends, "has_more": len(found) > limit})

    # Before `/v1/decisions/{id}`, or "stream" would be taken for an id.
    @app.get("/v1/decisions/stream")
    async def stream(request: Request) -> Response:
        viewer = viewer_of(service, request)
        if service.feed.full:
            text = "as many as can be served watch the feed already; GET /v1/decisions has the same"
            raise ApiError("rate_limit_exceeded", text, retry_after_s=QUIET_S)
        return StreamingResponse(
            _events(service, request, None if viewer.is_admin else viewer.tenant),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )


async def _events(service: Service, request: Request, tenant: str | None) -> AsyncIterator[bytes]:
    """Until the client leaves, the process stops, or the key may no longer see what it saw."""
    with service.feed.listening(tenant) as listener:
        yield b": listening\n\n"
        while not listener.closed and _still_allowed(service, request, tenant):
            found = await listener.news(QUIET_S)
            yield b"".join(_event(one) for one in found) or b": quiet\n\n"


def _event(one: Recent) -> bytes:
    return b"id: %s\nevent: decision\ndata: %s\n\n" % (one.request_id.encode(), msgspec.json.encode(recent_json(one)))


def _still_allowed(service: Service, request: Request, tenant: str | None) -> bool:
    """The files may have taken the key, or its right to see everything, since it began."""
    try:
        viewer = viewer_of(service, request)
    except ApiError:
        return False
    return viewer.is_admin or viewer.tenant == tenant
