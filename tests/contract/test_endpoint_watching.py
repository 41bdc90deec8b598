"""The routes that people watch an endpoint by: recent decisions, their stream, pools, the key, the policy's changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.endpoint import KEYS, Endpoint, before_simulated, policy

SHORT: dict[str, Any] = {"max_tokens": 5}


async def ids_of(endpoint: Endpoint, query: str = "", key: str = "acme") -> list[str]:
    page = (await endpoint.ask("GET", f"/v1/decisions{query}", key)).json
    assert page["object"] == "list"
    return [one["request_id"] for one in page["data"]]


# -- decisions ---------------------------------------------------------------------------------------------------------


async def test_the_list_pages_through_every_request_once(tmp_path: Path) -> None:
    """Newest first; following `after` to the end shows each request of the tenant exactly once."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        sent = [(await endpoint.chat(**SHORT)).headers["x-sluice-request-id"] for _ in range(5)]
        await endpoint.chat("globex", **SHORT)
        seen, after = [], ""
        while True:
            page = (await endpoint.ask("GET", f"/v1/decisions?limit=2{after}")).json
            seen += [one["request_id"] for one in page["data"]]
            assert (page["first_id"], page["last_id"]) == (
                page["data"][0]["request_id"],
                page["data"][-1]["request_id"],
            )
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
    assert seen == sent[::-1]


async def test_a_line_of_the_list_is_what_the_decision_says(tmp_path: Path) -> None:
    """Every field that the list and `/v1/decisions/{id}` share is the same, the way over a broken pool included."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        await endpoint.fail("mid", "refuse")
        reply = await endpoint.chat(**SHORT)
        [line] = (await endpoint.ask("GET", "/v1/decisions")).json["data"]
        whole = (await endpoint.ask("GET", f"/v1/decisions/{reply.headers['x-sluice-request-id']}")).json
    ways = [[(one["attempt"], one["pool"], one["outcome"]) for one in each["attempts"]] for each in (line, whole)]
    assert ways[0] == ways[1] == [(1, "mid", "unavailable"), (2, "other", "answered")]
    shared = (line.keys() & whole.keys()) - {"attempts"}
    assert shared >= {"request_id", "at", "tenant", "class", "pool", "outcome", "status", "duration_s", "cost_usd"}
    assert {name: line[name] for name in shared} == {name: whole[name] for name in shared}


async def test_moved_shows_requests_of_several_attempts(tmp_path: Path) -> None:
    """`moved=true` leaves out what the first pool answered."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        await endpoint.chat(**SHORT)
        await endpoint.fail("mid", "refuse")
        moved = (await endpoint.chat(**SHORT)).headers["x-sluice-request-id"]
        assert await ids_of(endpoint, "?moved=true") == [moved]


async def test_a_key_lists_its_own_requests_only(tmp_path: Path) -> None:
    """A tenant sees none of another's, cannot go on from one, and an admin sees all."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        theirs = (await endpoint.chat("globex", **SHORT)).headers["x-sluice-request-id"]
        mine = (await endpoint.chat("acme", **SHORT)).headers["x-sluice-request-id"]
        assert await ids_of(endpoint) == [mine]
        assert await ids_of(endpoint, key="ops") == [mine, theirs]
        refused = await endpoint.ask("GET", f"/v1/decisions?after={theirs}")
        unknown = await endpoint.ask("GET", "/v1/decisions?after=req_0")
    assert (refused.status, refused.code) == (unknown.status, unknown.code) == (400, "invalid_value")
    assert refused.json["error"]["message"].replace(theirs, "req_0") == unknown.json["error"]["message"]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many"])
async def test_a_page_has_a_size(tmp_path: Path, limit: str) -> None:
    """A limit that is none is refused by name."""
    async with before_simulated(tmp_path) as endpoint:
        reply = await endpoint.ask("GET", f"/v1/decisions?limit={limit}")
    assert (reply.status, reply.json["error"]["param"]) == (400, "limit")


# -- the stream --------------------------------------------------------------------------------------------------------


async def streamed(endpoint: Endpoint, key: str, count: int, listening: asyncio.Event) -> list[Any]:
    """The first `count` decisions that a key is told."""
    found: list[Any] = []
    headers = {"Authorization": f"Bearer {KEYS[key]}"}
    async with endpoint.session.get(f"{endpoint.url}/v1/decisions/stream", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async with asyncio.timeout(30):
            async for line in response.content:
                listening.set()
                if line.startswith(b"data: "):
                    found.append(json.loads(line.removeprefix(b"data: ")))
                if len(found) == count:
                    break
    return found


async def test_the_stream_tells_what_the_list_will_say(tmp_path: Path) -> None:
    """Each request, once it has ended, exactly as the list has it; a tenant is told of its own alone."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        heard = {key: asyncio.Event() for key in ("acme", "ops")}
        mine, all_of_them = (
            asyncio.create_task(streamed(endpoint, key, count, heard[key])) for key, count in (("acme", 2), ("ops", 3))
        )
        for each in heard.values():
            await asyncio.wait_for(each.wait(), 30)
        await endpoint.chat("globex", **SHORT)
        await endpoint.fail("mid", "refuse")
        await endpoint.chat("acme", **SHORT)
        await endpoint.chat("acme", model="chat", max_tokens=100_000)
        own, every = await mine, await all_of_them
        listed = {key: (await endpoint.ask("GET", "/v1/decisions", key)).json["data"] for key in ("acme", "ops")}
    assert own == listed["acme"][::-1]
    assert every == listed["ops"][::-1]
    assert [len(one["attempts"]) for one in own] == [2, 0]


async def test_a_key_that_is_taken_ends_its_stream(tmp_path: Path) -> None:
    """Once the files no longer know the key, nothing more is told, and the stream ends."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        headers = {"Authorization": f"Bearer {KEYS['globex']}"}
        async with endpoint.session.get(f"{endpoint.url}/v1/decisions/stream", headers=headers) as response:
            await response.content.readline()
            before = endpoint.service.policy.version
            changed = json.loads((endpoint.files / "policy.yaml").read_text())
            changed["tenants"]["globex"]["keys"][0]["sha256"] = hashlib.sha256(b"another").hexdigest()
            endpoint.write_policy(changed)
            async with asyncio.timeout(30):
                while endpoint.service.policy.version == before:
                    await endpoint.ask("GET", "/health/liveness")
                rest = await endpoint.chat("acme", **SHORT)
                endpoint.service.feed.close()
                told = await response.content.read()
    assert rest.status == 200
    assert b"data:" not in told


async def test_a_stop_ends_the_streams(tmp_path: Path) -> None:
    """A server that stops does not wait for those who watch."""
    async with before_simulated(tmp_path) as endpoint:
        headers = {"Authorization": f"Bearer {KEYS['ops']}"}
        response = await endpoint.session.get(f"{endpoint.url}/v1/decisions/stream", headers=headers)
        await response.content.readline()
        endpoint.server.should_exit = True
        async with asyncio.timeout(30):
            assert await response.content.read() is not None
        response.close()


# -- pools -------------------------------------------------------------------------------------------------------------


async def pools_seen(endpoint: Endpoint, key: str) -> dict[str, Any]:
    return {one["pool"]: one for one in (await endpoint.ask("GET", "/v1/pools", key)).json["data"]}


async def test_pools_say_what_health_and_the_ledger_say(tmp_path: Path) -> None:
    """Containers and breakers as `/health` has them, utilisation and first-token time as the rows of the hour have."""
    async with before_simulated(tmp_path, awake=("mid",), house_flush_s=1.0) as endpoint:
        for _ in range(3):
            await endpoint.chat(stream=True, **SHORT)
        await endpoint.service.meters.post_house()
        pools = await pools_seen(endpoint, "ops")
        believed = (await endpoint.ask("GET", "/health", "ops")).json["pools"]
        rows = [row for row in endpoint.rows() if row.ttft_us is not None]
    assert pools.keys() == {"small", "mid", "other", "big", "flux-schnell-fp8-a10"}
    for name, health in believed.items():
        assert {key: pools[name][key] for key in ("ready", "booting", "in_flight", "breaker", "drained")} == {
            key: health[key] for key in ("ready", "booting", "in_flight", "breaker", "drained")
        }
    assert pools["mid"]["state"] == "ready"
    assert pools["big"]["state"] == "asleep"
    assert pools["flux-schnell-fp8-a10"]["state"] == "not_deployed"
    assert pools["mid"]["first_token_p50_s"] == sorted(row.ttft_us or 0 for row in rows)[1] / 1e6
    assert 0 < pools["mid"]["utilisation"] < 1
    assert pools["big"]["utilisation"] is None
    assert pools["mid"]["price_usd_per_hour"] > 0


async def test_a_key_sees_the_pools_of_its_classes(tmp_path: Path) -> None:
    """A tenant that may use one class is shown that class's ladder alone; an admin key, every pool."""
    limited = policy()
    limited["tenants"]["acme"]["classes"] = ["text"]
    async with before_simulated(tmp_path, limited) as endpoint:
        assert (await pools_seen(endpoint, "acme"))["small"]["classes"] == {"text": "premium"}
        assert (await pools_seen(endpoint, "acme")).keys() == {"small"}
        assert (await pools_seen(endpoint, "globex")).keys() == (await pools_seen(endpoint, "ops")).keys()


async def test_a_failing_pool_says_so(tmp_path: Path) -> None:
    """An open breaker shows with its cause and when it is tried again."""
    breaker = {"failures": 1, "window_s": 60, "half_open_after_s": 600}
    async with before_simulated(tmp_path, policy(defaults={"breaker": breaker}), awake=("mid",)) as endpoint:
        await endpoint.fail("mid", "refuse")
        await endpoint.chat(**SHORT)
        mid = (await pools_seen(endpoint, "acme"))["mid"]
    assert (mid["state"], mid["breaker"]) == ("failing", "open")
    assert mid["breaker_reason"]
    assert 0 < mid["breaker_retry_s"] <= 600


async def test_a_key_can_ask_whose_it_is(tmp_path: Path) -> None:
    """`/v1/key` names tenant, id, rights and classes, and never the key."""
    async with before_simulated(tmp_path) as endpoint:
        acme, ops = [await endpoint.ask("GET", "/v1/key", key) for key in ("acme", "ops")]
    assert acme.json == {
        "object": "key", "id": "acme-key", "tenant": "acme", "rights": [], "classes": None, "tags": []
    }  # fmt: skip
    assert ops.json["rights"] == ["admin", "warmup"]
    assert KEYS["acme"] not in acme.body.decode()


# -- the policy --------------------------------------------------------------------------------------------------------


async def swapped(endpoint: Endpoint, changed: Any) -> None:
    before = endpoint.service.policy.version
    (endpoint.files / "policy.yaml").write_text(json.dumps(changed, indent=1), encoding="utf-8")
    async with asyncio.timeout(30):
        while endpoint.service.policy.version == before:
            await endpoint.ask("GET", "/health/liveness")


async def test_the_policy_shows_what_changed(tmp_path: Path) -> None:
    """After a reload: both versions, and a diff of the file that changed; before, no version to compare with."""
    async with before_simulated(tmp_path) as endpoint:
        first = (await endpoint.ask("GET", "/v1/policy", "ops")).json
        text = json.loads((endpoint.files / "policy.yaml").read_text())
        await swapped(endpoint, text)
        text["aliases"]["gpt-4o"] = "chat:premium"
        await swapped(endpoint, text)
        shown = (await endpoint.ask("GET", "/v1/policy", "ops")).json
        health = (await endpoint.ask("GET", "/health", "ops")).json["policy"]
    assert (first["previous"], first["changes"]) == (None, [])
    assert shown["version"] == health["version"] != first["version"]
    assert shown["loaded_at"] == health["loaded_at"] > shown["previous"]["loaded_at"]
    [change] = shown["changes"]
    assert change["change"] == "changed"
    assert '+  "gpt-4o": "chat:premium"' in change["diff"]


async def test_a_refused_file_is_no_version(tmp_path: Path) -> None:
    """What is wrong with the files shows; what is in force, and what was before it, stay."""
    async with before_simulated(tmp_path) as endpoint:
        endpoint.write_policy({"version": 1, "classes": {}})
        async with asyncio.timeout(30):
            while not endpoint.service.reloader.state().last_error:
                await endpoint.ask("GET", "/health/liveness")
        shown = (await endpoint.ask("GET", "/v1/policy", "ops")).json
    assert shown["problems"]
    assert (shown["version"], shown["previous"]) == (endpoint.service.policy.version, None)


async def test_only_an_admin_sees_the_policy(tmp_path: Path) -> None:
    """A tenant's key may not read whose limits are what."""
    async with before_simulated(tmp_path) as endpoint:
        reply = await endpoint.ask("GET", "/v1/policy", "acme")
    assert (reply.status, reply.code) == (403, "permission_denied")


async def test_the_policy_shows_no_secret(tmp_path: Path) -> None:
    """Neither the hash of a key nor a token in an address is in the answer; that a hash changed still shows."""
    files = policy(webhooks=[{"url": "https://hooks.example/T0/canary-path", "secret": "${HOOK}"}])
    async with before_simulated(tmp_path, files, environ={"HOOK": "canary-hook"}) as endpoint:
        text = json.loads((endpoint.files / "policy.yaml").read_text())
        old = text["tenants"]["acme"]["keys"][0]["sha256"]
        text["tenants"]["acme"]["keys"][0]["sha256"] = new = hashlib.sha256(b"a new key").hexdigest()
        text["webhooks"][0]["url"] = "https://hooks.example/T0/canary-other"
        await swapped(endpoint, text)
        reply = await endpoint.ask("GET", "/v1/policy", "ops")
    body = reply.body.decode()
    assert old[:8] in body
    assert new[:8] in body
    assert not [secret for secret in (old, new, "canary") if secret in body]


async def test_nobody_without_a_key_watches(tmp_path: Path) -> None:
    """Each of these routes asks for a key where an admin's exists."""
    async with before_simulated(tmp_path) as endpoint:
        for path in ("/v1/decisions", "/v1/decisions/stream", "/v1/pools", "/v1/key", "/v1/policy"):
            for key in (None, "sk-wrong"):
                reply = await endpoint.ask("GET", path, key, timeout=aiohttp.ClientTimeout(10))
                assert (reply.status, reply.code) == (401, "invalid_api_key"), path
