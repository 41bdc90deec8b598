"""The dashboard's routes: pages for people, over the public API and with its keys and rights.

Nothing here reads the ledger or the policy: what a page shows was asked of the API with the viewer's own key. Whoever
the API serves without a key (this machine, while no admin key exists) need not sign in.

A session's cookie goes to this origin alone, is out of scripts' reach, and is not made from the key; with replicas it
holds at each of them. Posts come from our own pages only: `SameSite=Strict` keeps the cookie from others', and the
browser's word on where a post comes from is checked as well, so that nobody is signed in or out by another site.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from pricing.clock import Clock
from pricing.errors import StoreUnavailable
from router.dashboard.inside import Answer, PublicApi, Visitor
from router.dashboard.overview import overview
from router.dashboard.pages import STATIC, assets, feed_row, prepare, render
from router.dashboard.patience import Patience
from router.dashboard.sessions import LASTS_S, Sessions, SharedSessions
from router.http.exchange import read_body
from router.inbound.callers import hash_of

COOKIE: Final = "sluice_session"
THEME: Final = "sluice_theme"
LOGIN: Final = "/dashboard/login"
SIGNED_OUT_WITHIN_S: Final = 2.0  # how long what is known of a session will do where one looks again and again
_FORM_BYTES: Final = 8192
_NOT_EVERYWHERE: Final = (
    "You are signed out in this browser, but the other replicas cannot be told: a copy of its cookie would hold there "
    "until the session's time is over. Ask for a new key if that must not be."
)
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Dashboard:
    """Pages, and who has signed in to them."""

    def __init__(self, api: PublicApi, clock: Clock, shared: SharedSessions | None) -> None:
        self.api = api
        self.clock = clock
        self.patience = Patience(api, time.monotonic)
        self.sessions = Sessions(time.monotonic, shared)

    async def visitor(self, request: Request) -> Visitor:
        return Visitor.of(request.scope, await self.sessions.key_of(request.cookies.get(COOKIE)))

    async def still(self, request: Request, visitor: Visitor) -> bool:
        """Whether somebody who watches is signed in as they were; sign-outs elsewhere count within moments."""
        return await self.sessions.key_of(request.cookies.get(COOKIE), SIGNED_OUT_WITHIN_S) == visitor.key_hash

    async def whose(self, visitor: Visitor) -> Answer:
        return await self.api.get(visitor, "/v1/key")

    async def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        theme = request.cookies.get(THEME)
        signed_in = await self.sessions.key_of(request.cookies.get(COOKIE), SIGNED_OUT_WITHIN_S) is not None
        theme = theme if theme in ("light", "dark") else None
        text = await asyncio.to_thread(render, template, theme=theme, signed_in=signed_in, **values)
        return HTMLResponse(text, status, _HEADERS)

    async def login_page(self, request: Request, status: int = 200, trouble: str = "") -> Response:
        return await self.page(request, "login.html", status, trouble=trouble, hours=LASTS_S // 3600)


def add_dashboard_routes(app: FastAPI, clock: Clock, shared: SharedSessions | None) -> None:
    """Pages over the API that `app` serves; `shared` is where sessions lie that hold at other replicas too."""
    prepare()
    dashboard = Dashboard(PublicApi(app), clock, shared)
    _add_pages(app, dashboard)
    _add_feed(app, dashboard)
    _add_sessions(app, dashboard)

    @app.get(STATIC + "{name:path}", include_in_schema=False)
    async def static(name: str) -> Response:
        """Open to all: they hold nothing of anybody."""
        found = assets().get(name)
        if found is None:
            return Response(status_code=404, headers=_HEADERS)
        kept = {**_HEADERS, "cache-control": "public, max-age=31536000, immutable"}
        return Response(found.content, media_type=found.media_type, headers=kept)


def _add_pages(app: FastAPI, dashboard: Dashboard) -> None:
    @app.get("/", include_in_schema=False)
    async def first(request: Request) -> Response:
        visitor = await dashboard.visitor(request)
        key = await dashboard.whose(visitor)
        if not key.ok:
            return _to(LOGIN)
        now_us = dashboard.clock.wall_us()
        found = await overview(dashboard.api, dashboard.patience, visitor, key.json, now_us)
        return await dashboard.page(request, "overview.html", overview=found)

    @app.get("/dashboard/decisions/{request_id}", include_in_schema=False)
    async def decision(request: Request, request_id: str) -> Response:
        visitor = await dashboard.visitor(request)
        found = await dashboard.api.get(visitor, f"/v1/decisions/{quote(request_id, safe='')}")
        if found.status == 401:
            return _to(LOGIN)
        if not found.ok:
            heading = "Not found" if found.status == 404 else "Not shown"
            return await dashboard.page(request, "message.html", found.status, heading=heading, text=found.trouble)
        return await dashboard.page(request, "decision.html", past=found.json)


def _add_feed(app: FastAPI, dashboard: Dashboard) -> None:
    @app.get("/dashboard/feed", include_in_schema=False)
    async def feed(request: Request) -> Response:
        """The rows of `/v1/decisions/stream`, drawn as the page draws its own."""
        visitor = await dashboard.visitor(request)
        key = await dashboard.whose(visitor)
        if not key.ok:
            return Response(status_code=401, headers=_HEADERS)
        rows = _rows(dashboard, request, visitor, admin="admin" in key.json["rights"])
        return StreamingResponse(rows, media_type="text/event-stream", headers={**_HEADERS, "x-accel-buffering": "no"})


async def _rows(dashboard: Dashboard, request: Request, visitor: Visitor, *, admin: bool) -> AsyncIterator[str]:
    """Until the API's stream ends or the viewer signs out."""
    yield ": listening\n\n"
    async with aclosing(dashboard.api.events(visitor, "/v1/decisions/stream")) as events:
        async for decision in events:
            if not await dashboard.still(request, visitor):
                return
            if decision is None:
                yield ": quiet\n\n"
            else:
                row = feed_row(decision, admin=admin).replace("\n", " ")
                yield f"id: {decision['request_id']}\nevent: decision\ndata: {row}\n\n"


def _add_sessions(app: FastAPI, dashboard: Dashboard) -> None:
    @app.get(LOGIN, include_in_schema=False)
    async def form(request: Request) -> Response:
        if (await dashboard.whose(await dashboard.visitor(request))).ok:
            return _to("/")
        return await dashboard.login_page(request)

    @app.post(LOGIN, include_in_schema=False)
    async def login(request: Request) -> Response:
        if not _from_our_page(request):
            return await dashboard.login_page(request, 403, "This form was sent from another site. Sign in here.")
        body = await read_body(request.scope, request.receive, _FORM_BYTES)
        key = parse_qs(body.decode("latin-1")).get("key", [""])[0].strip()
        if not key.isascii() or not key.isprintable() or not key:
            return await dashboard.login_page(
                request, 400, "That is no API key. Paste the whole key, without 'Bearer'."
            )
        key_hash = hash_of(key.encode())
        known = await dashboard.whose(Visitor.of(request.scope, key_hash))
        if not known.ok:
            return await dashboard.login_page(request, known.status, known.trouble)
        with suppress(StoreUnavailable):  # the old session then lasts as long as it was to
            await dashboard.sessions.close(request.cookies.get(COOKIE))
        answer = _to("/")
        _set_cookie(answer, request, await dashboard.sessions.open(key_hash))
        return answer

    @app.post("/dashboard/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        if not _from_our_page(request):
            return await dashboard.login_page(request, 403, "Sign out from the dashboard itself.")
        answer = _to(LOGIN)
        try:
            await dashboard.sessions.close(request.cookies.get(COOKIE))
        except StoreUnavailable:
            answer = await dashboard.login_page(request, 503, _NOT_EVERYWHERE)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer


def _set_cookie(answer: Response, request: Request, token: str) -> None:
    """`Secure` wherever the browser came by TLS, be it that a proxy ended it."""
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    answer.set_cookie(COOKIE, token, max_age=LASTS_S, path="/", httponly=True, samesite="strict", secure=secure)


def _to(path: str) -> Response:
    """After a post, and to the form: the browser gets the page anew."""
    return RedirectResponse(path, 303, _HEADERS)


def _from_our_page(request: Request) -> bool:
    """Whether a post comes from this origin. A client that says nothing of it is no browser, and has no cookie."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
