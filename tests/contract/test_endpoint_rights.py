"""Every route by every kind of key: who may ask, and that no tenant sees anything of another's.

A route that this file does not know fails: whoever adds one says here whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Route

from router.app import Server
from router.http.dispatch import Dispatcher
from router.http.inference import PATHS
from support.endpoint import KEYS, Endpoint, Policy, before_simulated, one_pool


class Who(Enum):
    """Who gets an answer from a route."""

    ANYBODY = "anybody"  # it holds nothing of anybody
    KEY = "key"  # each key sees what is its own tenant's, an admin key everything
    WARMUP = "warmup"  # keys with that right
    ADMIN = "admin"
    PAGE = "page"  # sends whoever is not signed in to the form


ROUTES = {
    **{f"POST {path}": Who.KEY for path in PATHS},
    "POST /v1/videos": Who.KEY,
    "GET /v1/videos": Who.KEY,
    "GET /v1/videos/{job_id}": Who.KEY,
    "GET /v1/videos/{job_id}/content": Who.KEY,
    "DELETE /v1/videos/{job_id}": Who.KEY,
    "GET /v1/models": Who.KEY,
    "GET /v1/models/{name:path}": Who.KEY,
    "POST /v1/route": Who.KEY,
    "GET /v1/decisions": Who.KEY,
    "GET /v1/decisions/stream": Who.KEY,
    "GET /v1/decisions/{request_id}": Who.KEY,
    "GET /v1/key": Who.KEY,
    "GET /v1/pools": Who.KEY,
    "GET /v1/reports": Who.KEY,
    "GET /v1/costs": Who.KEY,
    "GET /v1/organization/costs": Who.KEY,
    "GET /v1/usage": Who.KEY,
    "GET /v1/organization/usage/completions": Who.KEY,
    "GET /budgets": Who.KEY,
    "GET /v1/focus": Who.ADMIN,
    "GET /v1/policy": Who.ADMIN,
    "GET /metrics": Who.ADMIN,
    "GET /warmup": Who.WARMUP,
    "POST /warmup": Who.WARMUP,
    "GET /health": Who.ANYBODY,
    "GET /health/liveness": Who.ANYBODY,
    "GET /health/liveliness": Who.ANYBODY,
    "GET /health/readiness": Who.ANYBODY,
    "GET /health/{model}": Who.ANYBODY,
    "GET /openapi.json": Who.ANYBODY,
    "GET /": Who.PAGE,
    "GET /dashboard/decisions/{request_id}": Who.PAGE,
    "GET /dashboard/login": Who.ANYBODY,
    "POST /dashboard/login": Who.ANYBODY,
    "POST /dashboard/logout": Who.ANYBODY,
    "GET /dashboard/static/{name:path}": Who.ANYBODY,
    "GET /dashboard/feed": Who.KEY,
}
WAKER = "sk-waker-0123456789"
STREAMS = {"GET /v1/decisions/stream", "GET /dashboard/feed"}
QUERIES = {
    "GET /v1/costs": ("?group_by=project_id&group_by=api_key_id", "?project_ids=globex"),
    "GET /v1/organization/costs": ("?group_by=project_id&group_by=line_item", "?api_key_ids=globex-key"),
    "GET /v1/usage": ("?group_by=project_id&group_by=api_key_id", "?project_ids=globex"),
    "GET /v1/organization/usage/completions": ("?group_by=project_id", "?api_key_ids=globex-key"),
    "GET /v1/reports": ("?by=tenant,key,tag", "?by=key&tenant=globex", "?by=tenant,pool&format=csv", "?by=tenant"),
    "GET /budgets": ("", "?tenant=globex", "?scope=tenant:globex"),
    "GET /v1/decisions": ("", "?limit=100"),
}
BODIES: dict[str, Any] = {"POST /v1/route": {"class": "chat"}, "POST /warmup": {"model": "chat"}}


def files() -> Policy:
    """Both tenants have caps, limits and tags of their own; one has a key that may wake pools, and nothing else."""
    caps = [
        {"name": f"{tenant}-day", "amount_usd": 5, "window": "24h", "scope": f"tenant:{tenant}"}
        for tenant in ("acme", "globex")
    ]
    text = one_pool(caps=caps)
    text["tenants"]["globex"]["keys"][0]["tags"] = ["globex-tag"]
    waker = {"id": "waker-key", "sha256": hashlib.sha256(WAKER.encode()).hexdigest(), "rights": ["warmup"]}
    text["tenants"]["acme"]["keys"].append(waker)
    return text


@contextlib.asynccontextmanager
async def two_tenants(folder: Path) -> AsyncIterator[tuple[Endpoint, str]]:
    """An endpoint that has served both tenants, and the id of the request that is `globex`'s."""
    async with before_simulated(folder, files(), awake=("small",)) as endpoint:
        theirs = await endpoint.chat("globex", max_tokens=3)
        mine = await endpoint.chat("acme", max_tokens=3)
        assert theirs.status == mine.status == 200
        await endpoint.requests(2)
        yield endpoint, theirs.headers["x-sluice-request-id"]


def routes_of(server: Server) -> set[str]:
    application = server.config.app
    assert isinstance(application, Dispatcher)
    assert isinstance(application.rest, FastAPI)
    found = {f"POST {path}" for path in PATHS}
    for route in application.rest.routes:
        assert isinstance(route, Route)
        found |= {f"{method} {route.path}" for method in (route.methods or set()) - {"HEAD"}}
    return found


def address(route: str, theirs: str, query: str = "") -> tuple[str, str]:
    method, path = route.split(" ")
    for name, value in {
        "{request_id}": theirs,
        "{job_id}": "video_none",
        "{model}": "chat",
        "{name:path}": "chat",
    }.items():
        path = path.replace(name, value)
    return method, path + query


async def test_whose_each_route_is(tmp_path: Path) -> None:
    """All that is served is listed above, nothing else is; without a key, or with a wrong one, only what is open."""
    async with two_tenants(tmp_path) as (endpoint, theirs):
        assert routes_of(endpoint.server) == set(ROUTES)
        for key in (None, "sk-nobody"):
            for route, who in ROUTES.items():
                method, path = address(route, theirs)
                reply = await endpoint.ask(method, path, key, json=BODIES.get(route), allow_redirects=False)
                if who is Who.PAGE:
                    assert (reply.status, reply.headers["location"]) == (303, "/dashboard/login"), route
                elif who is Who.ANYBODY:
                    assert reply.status in (200, 303, 400, 404), route
                else:
                    assert reply.status == 401, route


@pytest.mark.parametrize(("key", "rights"), [("acme", set()), (WAKER, {Who.WARMUP}), ("ops", {Who.ADMIN, Who.WARMUP})])
async def test_what_takes_a_right_takes_it(tmp_path: Path, key: str, rights: set[Who]) -> None:
    """A key without it is refused there, and no other reason is given; one right is not the other."""
    async with two_tenants(tmp_path) as (endpoint, theirs):
        for route, who in ROUTES.items():
            if who in (Who.ADMIN, Who.WARMUP):
                method, path = address(route, theirs, "?model=chat" if route == "GET /warmup" else "")
                reply = await endpoint.ask(method, path, key, json=BODIES.get(route))
                assert (reply.status in (200, 202)) if who in rights else (reply.status == 403), route


async def test_no_tenant_sees_another(tmp_path: Path) -> None:
    """Not its name, keys, tags, caps or requests, on no route, whatever is asked for; the admin's key sees them."""
    async with two_tenants(tmp_path) as (endpoint, theirs):
        acme, waker, ops = [await everything_seen(endpoint, key, theirs) for key in ("acme", WAKER, "ops")]
    for route, body in (*acme.items(), *waker.items()):
        assert b"globex" not in body, route
        assert theirs.encode() not in body, route
    for trace in ("globex-key", "globex-day", "globex-tag", theirs):
        assert any(trace.encode() in body for body in ops.values()), trace


async def everything_seen(endpoint: Endpoint, key: str, theirs: str) -> dict[str, bytes]:
    """What a key gets from every route, by route and query. Refusals are left out: they repeat what was asked."""
    seen = {}
    for route, who in ROUTES.items():
        if route in STREAMS or who in (Who.ADMIN, Who.WARMUP):
            continue
        for query in QUERIES.get(route, ("",)):
            method, path = address(route, theirs, query)
            reply = await endpoint.ask(method, path, key, json=BODIES.get(route))
            if reply.status < 300:
                seen[route + query] = reply.body
    return seen


@pytest.mark.parametrize("path", ["/v1/decisions/stream", "/dashboard/feed"])
async def test_a_feed_tells_of_its_own_tenant_alone(tmp_path: Path, path: str) -> None:
    """Of two requests that end while it is open, the one that is its own."""
    async with two_tenants(tmp_path) as (endpoint, _):
        headers = {"Authorization": f"Bearer {KEYS['acme']}"}
        async with endpoint.session.get(endpoint.url + path, headers=headers) as feed, asyncio.timeout(20):
            assert await feed.content.readuntil(b"\n\n") == b": listening\n\n"
            theirs = await endpoint.chat("globex", max_tokens=2)
            mine = await endpoint.chat("acme", max_tokens=2)
            first = b": quiet"
            while first.startswith(b": "):
                first = await feed.content.readuntil(b"\n\n")
    assert mine.headers["x-sluice-request-id"].encode() in first
    assert theirs.headers["x-sluice-request-id"].encode() not in first
    assert b"globex" not in first


async def test_a_page_shows_its_own_tenant_alone(tmp_path: Path) -> None:
    """Signed in with a tenant's key; another's request is not found."""
    async with two_tenants(tmp_path) as (endpoint, theirs):
        signed = await endpoint.ask("POST", "/dashboard/login", None, data={"key": KEYS["acme"]}, allow_redirects=False)
        assert signed.status == 303
        cookie = {"Cookie": signed.headers["set-cookie"].split(";")[0]}
        first = await endpoint.ask("GET", "/", None, headers=cookie)
        request = await endpoint.ask("GET", f"/dashboard/decisions/{theirs}", None, headers=cookie)
    assert first.status == 200
    assert b"globex" not in first.body
    assert theirs.encode() not in first.body
    assert request.status == 404
    assert b"globex" not in request.body
