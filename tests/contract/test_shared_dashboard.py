"""One dashboard over several replicas: real processes that share a real Redis and PostgreSQL, any of them asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from router.dashboard.routes import COOKIE
from support.real_redis import RedisServer
from support.replicas import KEYS, Replicas, policy, replicas


@pytest.fixture
async def two(tmp_path: Path, redis_server: RedisServer, postgres_url: str) -> AsyncIterator[Replicas]:
    """Two replicas, as behind a balancer that sends each request to either."""
    namespace = uuid.uuid4().hex
    async with replicas(tmp_path, redis_server.url, postgres_url, policy(), namespace, ("small",)) as made:
        await asyncio.gather(made.start("a"), made.start("b"))
        yield made


async def browse(two: Replicas, replica: str, path: str, cookie: str = "", **more: Any) -> tuple[int, str, str]:
    """A browser's request, which has a cookie and no key: status, where it is sent on to, and the body."""
    method = more.pop("method", "GET")
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
    url = two.running[replica].url + path
    async with two.session.request(method, url, headers=headers, allow_redirects=False, **more) as answer:
        body = (await answer.read()).decode()
        if "set-cookie" in answer.headers:
            body += answer.headers["set-cookie"]
        return answer.status, answer.headers.get("location", ""), body


async def sign_in(two: Replicas, replica: str, key: str) -> str:
    status, _, body = await browse(two, replica, "/dashboard/login", method="POST", data={"key": KEYS[key]})
    assert status == HTTPStatus.SEE_OTHER
    [token] = re.findall(rf"{COOKIE}=([\w-]+);", body)
    return str(token)


async def test_a_session_holds_at_every_replica_and_ends_at_every_replica(two: Replicas) -> None:
    """Signed in at one, a browser is shown what its key may see by both, until it signs out at either."""
    tokens = {key: await sign_in(two, "a", key) for key in ("acme", "ops")}
    for replica in ("a", "b"):
        for key, token in tokens.items():
            status, _, page = await browse(two, replica, "/", token)
            assert status == HTTPStatus.OK
            assert ("Every tenant" in page) is (key == "ops")
    assert (await browse(two, "b", "/dashboard/logout", tokens["ops"], method="POST"))[:2] == (303, "/dashboard/login")
    for replica in ("a", "b"):
        assert (await browse(two, replica, "/", tokens["ops"]))[:2] == (303, "/dashboard/login")
        assert (await browse(two, replica, "/", tokens["acme"]))[0] == HTTPStatus.OK


async def test_a_key_that_is_taken_takes_its_sessions_along_at_every_replica(two: Replicas) -> None:
    """Each replica goes by its own files: once they no longer know the key, its sessions show nothing more."""
    token = await sign_in(two, "b", "globex")
    path = two.folder / "policy.yaml"
    changed = json.loads(path.read_text())
    changed["tenants"]["globex"]["keys"][0]["sha256"] = hashlib.sha256(b"another").hexdigest()
    path.write_text(json.dumps(changed), encoding="utf-8")
    for replica in ("a", "b"):

        async def refused(replica: str = replica) -> bool:
            return (await browse(two, replica, "/", token))[0] == HTTPStatus.SEE_OTHER

        await two.until(refused)


async def test_who_watches_one_replica_sees_what_both_serve(two: Replicas) -> None:
    """The live feed has the other's requests within moments, as the list of either has them once they are written."""
    headers = {"Authorization": f"Bearer {KEYS['acme']}"}
    told: list[Any] = []

    async with two.session.get(f"{two.running['a'].url}/v1/decisions/stream", headers=headers) as stream:

        def hear(line: bytes) -> None:
            if line.startswith(b"data: "):
                told.append(json.loads(line.removeprefix(b"data: ")))

        async def listen() -> None:
            async for line in stream.content:
                hear(line)

        listening = asyncio.create_task(listen())
        assert (await two.chat("b", "globex", 3)).status == HTTPStatus.OK
        made = []

        async def heard() -> bool:
            """B hears within two seconds that A is watched: what it serves until then is in the ledger alone."""
            made.append((await two.chat("b", "acme", 3)).headers["x-sluice-request-id"])
            return bool(told)

        await two.until(heard)
        last = [(await two.chat(name, "acme", 3)).headers["x-sluice-request-id"] for name in ("a", "b")]

        async def all_heard() -> bool:
            await two.readiness("a")
            return set(last) <= {one["request_id"] for one in told}

        await two.until(all_heard)
        listening.cancel()
    await two.drained()
    for replica in ("a", "b"):
        listed = (await two.ask(replica, "/v1/decisions?limit=100", "acme")).json["data"]
        assert {one["request_id"] for one in listed} == {*made, *last}
        by_id = {one["request_id"]: one for one in listed}
        assert [by_id[one["request_id"]] for one in told] == told
    ids = [one["request_id"] for one in told]
    assert len(ids) == len(set(ids))
