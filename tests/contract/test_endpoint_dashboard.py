"""The dashboard over HTTP: who gets in, what its pages may do in a browser, and what other sites cannot."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from router.dashboard.patience import PENDING
from router.dashboard.routes import COOKIE
from support.endpoint import KEYS, Endpoint, Reply, before_simulated, policy

PAGES = ("/", "/dashboard/login", "/dashboard/decisions/req_1", "/dashboard/feed")


async def ask(endpoint: Endpoint, path: str, cookie: str | None = None, **more: Any) -> Reply:
    """A browser's request: a cookie and no key; redirects are not followed."""
    headers = {**more.pop("headers", {}), **({"Cookie": f"{COOKIE}={cookie}"} if cookie else {})}
    return await endpoint.ask(more.pop("method", "GET"), path, None, headers=headers, allow_redirects=False, **more)


async def sign_in(endpoint: Endpoint, key: str, headers: Mapping[str, str] | None = None) -> Reply:
    form = {"key": KEYS.get(key, key)}
    return await ask(endpoint, "/dashboard/login", method="POST", data=form, headers=dict(headers or {}))


async def session(endpoint: Endpoint, key: str) -> str:
    reply = await sign_in(endpoint, key)
    assert (reply.status, reply.headers["location"]) == (303, "/")
    [(name, value)] = re.findall(r"^(\w+)=([\w-]+);", reply.headers["set-cookie"])
    assert name == COOKIE
    return str(value)


# -- getting in --------------------------------------------------------------------------------------------------------


async def test_nothing_is_shown_without_a_session(tmp_path: Path) -> None:
    """Every page sends a stranger to the form, and the feed refuses; a made-up cookie is a stranger's."""
    async with before_simulated(tmp_path) as endpoint:
        for cookie in (None, "made-up", ""):
            for path in ("/", "/dashboard/decisions/req_1"):
                reply = await ask(endpoint, path, cookie)
                assert (reply.status, reply.headers["location"], reply.body) == (303, "/dashboard/login", b"")
            assert (await ask(endpoint, "/dashboard/feed", cookie)).status == 401
            assert b"Sign in" in (await ask(endpoint, "/dashboard/login", cookie)).body


async def test_a_session_shows_what_its_key_may_see(tmp_path: Path) -> None:
    """A tenant's page names no other tenant, and another's request is not found; an admin's shows both."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        theirs = (await endpoint.chat("globex", max_tokens=5)).headers["x-sluice-request-id"]
        await endpoint.chat("acme", max_tokens=5)
        pages = {key: (await ask(endpoint, "/", await session(endpoint, key))).body.decode() for key in ("acme", "ops")}
        found = {
            key: await ask(endpoint, f"/dashboard/decisions/{theirs}", await session(endpoint, key))
            for key in ("acme", "globex", "ops")
        }
    assert "globex" not in pages["acme"]
    assert theirs not in pages["acme"]
    assert {"globex", "acme"} <= set(re.findall(r"globex|acme", pages["ops"]))
    assert {key: reply.status for key, reply in found.items()} == {"acme": 404, "globex": 200, "ops": 200}


async def test_the_cookie_is_not_the_key(tmp_path: Path) -> None:
    """It is random, out of scripts' reach, kept from other sites, and opens none of the API's routes."""
    async with before_simulated(tmp_path) as endpoint:
        first, second = await sign_in(endpoint, "ops"), await sign_in(endpoint, "ops")
        plain, over_tls = first.headers["set-cookie"], await sign_in(endpoint, "ops", {"X-Forwarded-Proto": "https"})
        token = await session(endpoint, "ops")
        assert (await ask(endpoint, "/v1/decisions", token)).status == 401
        as_key = await endpoint.ask("GET", "/v1/decisions", token)
        page = (await ask(endpoint, "/", token)).body.decode()
    assert plain != second.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain.split("; ")
    assert "Secure" in over_tls.headers["set-cookie"].split("; ")
    assert as_key.status == 401
    assert not [secret for secret in (KEYS["ops"], token) if secret in page or secret in plain]


@pytest.mark.parametrize("key", ["sk-wrong", "", "  ", "sk-ö", "sk-a\nb", "Bearer sk-ops-0123456789"])
async def test_no_session_begins_with_what_is_no_key(tmp_path: Path, key: str) -> None:
    """The form comes again and says why; no cookie is set, and what was typed is not repeated."""
    async with before_simulated(tmp_path) as endpoint:
        reply = await sign_in(endpoint, key)
    assert reply.status in (400, 401)
    assert "set-cookie" not in reply.headers
    assert 'role="alert"' in reply.body.decode()
    assert not key.strip() or key not in reply.body.decode()


async def test_a_form_has_a_size(tmp_path: Path) -> None:
    """A login that is larger than any key is refused unread."""
    async with before_simulated(tmp_path) as endpoint:
        assert (await sign_in(endpoint, "x" * 10_000)).status == 413


# -- getting out -------------------------------------------------------------------------------------------------------


async def test_signing_out_ends_the_session_here(tmp_path: Path) -> None:
    """The token is worth nothing afterwards, wherever it still is; other sessions of the key go on."""
    async with before_simulated(tmp_path) as endpoint:
        mine, other = await session(endpoint, "ops"), await session(endpoint, "ops")
        reply = await ask(endpoint, "/dashboard/logout", mine, method="POST")
        assert (reply.status, reply.headers["location"]) == (303, "/dashboard/login")
        assert 'sluice_session=""' in reply.headers["set-cookie"]
        assert [(await ask(endpoint, "/", token)).status for token in (mine, other)] == [303, 200]
        assert (await ask(endpoint, "/dashboard/logout", other)).status == 405
        assert (await ask(endpoint, "/", other)).status == 200


async def test_a_key_that_is_taken_takes_its_sessions_along(tmp_path: Path) -> None:
    """Once the files no longer know the key, its sessions show nothing more."""
    async with before_simulated(tmp_path) as endpoint:
        token = await session(endpoint, "globex")
        changed = json.loads((endpoint.files / "policy.yaml").read_text())
        changed["tenants"]["globex"]["keys"][0]["sha256"] = hashlib.sha256(b"another").hexdigest()
        before = endpoint.service.policy.version
        endpoint.write_policy(changed)
        async with asyncio.timeout(30):
            while endpoint.service.policy.version == before:
                await endpoint.ask("GET", "/health/liveness")
        assert (await ask(endpoint, "/", token)).status == 303


async def test_a_feed_ends_with_its_session(tmp_path: Path) -> None:
    """What is watched stops for who has signed out: no further row is told."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        token = await session(endpoint, "ops")
        cookie = {"Cookie": f"{COOKIE}={token}"}
        async with endpoint.session.get(f"{endpoint.url}/dashboard/feed", headers=cookie) as feed:
            first = (await endpoint.chat(max_tokens=3)).headers["x-sluice-request-id"]
            async with asyncio.timeout(30):
                while f'data-id="{first}"'.encode() not in (line := await feed.content.readline()):
                    assert line
            await ask(endpoint, "/dashboard/logout", token, method="POST")
            second = (await endpoint.chat(max_tokens=3)).headers["x-sluice-request-id"]
            async with asyncio.timeout(30):
                assert second.encode() not in await feed.content.read()


# -- other sites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Origin": "http://dash.example", "Host": "dash.example"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://dash.example", "Host": "dash.example"}, False),
    ],
)
async def test_other_sites_sign_nobody_in_or_out(tmp_path: Path, headers: dict[str, str], allowed: bool) -> None:
    """A post whose browser says that it comes from elsewhere changes nothing."""
    async with before_simulated(tmp_path) as endpoint:
        token = await session(endpoint, "ops")
        into = await sign_in(endpoint, "ops", headers)
        out = await ask(endpoint, "/dashboard/logout", token, method="POST", headers=headers)
        still = (await ask(endpoint, "/", token)).status
    expected = (303, 303, 303) if allowed else (403, 403, 200)
    assert (into.status, out.status, still) == expected
    assert ("set-cookie" in into.headers) is allowed


async def test_pages_run_nothing_but_their_own(tmp_path: Path) -> None:
    """No page may be framed, kept, or run what is inline or from elsewhere; none holds such a thing."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        made = (await endpoint.chat(max_tokens=3)).headers["x-sluice-request-id"]
        token = await session(endpoint, "ops")
        replies = {path: await ask(endpoint, path, token) for path in ("/", f"/dashboard/decisions/{made}")}
        replies["form"] = await ask(endpoint, "/dashboard/login")
        replies["redirect"] = await ask(endpoint, "/")
        replies["missing"] = await ask(endpoint, "/dashboard/decisions/req_1", token)
    for reply in replies.values():
        rules = dict(rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; "))
        assert (rules["default-src"], rules["script-src"], rules["style-src"]) == ("'none'", "'self'", "'self'")
        assert (rules["frame-ancestors"], rules["base-uri"], rules["form-action"]) == ("'none'", "'none'", "'self'")
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["cache-control"] == "no-store"
        source = reply.body.decode()
        assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:|https?://(?!www\.w3\.org)", source)
        assert set(re.findall(r"<script(?! src=\"/dashboard/static/)[^>]*", source)) <= {
            f'<script type="application/json" id="data-{name}"' for name in ("spend", "requests")
        }


async def test_names_from_outside_are_text(tmp_path: Path) -> None:
    """What a client calls its model, which anybody may choose, is shown as written and never read as markup."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        name = "<img src=x onerror=alert(1)>\"'"
        refused = await endpoint.chat(model=name)
        token = await session(endpoint, "ops")
        request_id = refused.headers["x-sluice-request-id"]
        page = (await ask(endpoint, f"/dashboard/decisions/{request_id}", token)).body.decode()
        missing = (await ask(endpoint, "/dashboard/decisions/%3Cimg%20src%3Dx%3E", token)).body.decode()
    assert "<img" not in page
    assert "<img" not in missing


async def test_a_route_that_is_no_decision_is_not_found(tmp_path: Path) -> None:
    """Also the one beside them that never ends."""
    async with before_simulated(tmp_path) as endpoint:
        token = await session(endpoint, "ops")
        for name in ("stream", "..", "%2e%2e%2fpools", "req_1%3Fa=b"):
            async with asyncio.timeout(30):
                reply = await ask(endpoint, f"/dashboard/decisions/{name}", token)
            assert reply.status in (303, 404), name


async def test_files_are_kept_by_their_digest(tmp_path: Path) -> None:
    """Scripts and styles are open, may be kept for good under their address, and nothing else is served there."""
    async with before_simulated(tmp_path) as endpoint:
        form = (await ask(endpoint, "/dashboard/login")).body.decode()
        addresses = re.findall(r"\"(/dashboard/static/[^\"]+)\"", form)
        replies = [await ask(endpoint, address) for address in addresses]
        outside = [
            await ask(endpoint, f"/dashboard/static/{name}")
            for name in ("nothing.js", "vendor", "", "..%2fpages.py", "../pages.py", "vendor/SOURCE.md")
        ]
    assert len(addresses) >= 2
    assert {reply.status for reply in replies} == {200}
    assert {reply.headers["cache-control"] for reply in replies} == {"public, max-age=31536000, immutable"}
    assert {reply.status for reply in outside} <= {404}


# -- this machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "shown"),
    [({}, True), ({"Host": "evil.example"}, False), ({"X-Forwarded-For": "203.0.113.7"}, False)],
)
async def test_this_machine_is_whom_the_api_takes_for_it(tmp_path: Path, headers: dict[str, str], shown: bool) -> None:
    """Without an admin key the page shows on loopback what the API does, and to nobody who comes through a proxy."""
    plain = policy()
    del plain["tenants"]["ops"]
    async with before_simulated(tmp_path, plain) as endpoint:
        page = await ask(endpoint, "/", headers=headers)
        api = await endpoint.ask("GET", "/budgets", None, headers=headers)
    assert (page.status == 200, api.status == 200) == (shown, shown)


async def test_a_panel_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A ledger that is gone costs what is read from it, in the API's own words; caps and pools' states stay."""
    async with before_simulated(tmp_path, agrees=False) as endpoint:
        token = await session(endpoint, "ops")
        away = endpoint.ledger.with_suffix(".away")
        endpoint.ledger.rename(away)
        page = await ask(endpoint, "/", token)
        while PENDING in page.body.decode():
            page = await ask(endpoint, "/", token)
        away.rename(endpoint.ledger)
    text = page.body.decode()
    assert page.status == 200
    assert text.count("no ledger at") >= 3
    assert "No cap applies" in text
