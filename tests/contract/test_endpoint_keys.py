"""Who may see and do what: every route against no key, a wrong one, two tenants' and an admin's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.endpoint import CHAT, COMPLETIONS, Endpoint, before_simulated, policy

BODY: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", CHAT, BODY),
    ("POST", COMPLETIONS, {"model": "chat", "prompt": "hello", "max_tokens": 2}),
    ("POST", "/generate", {"prompt": "hello", "max_tokens": 2}),
    ("POST", "/v1/route", BODY),
    ("POST", "/warmup", {"pool": "mid"}),
    ("GET", "/warmup?pool=mid", None),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/chat", None),
    ("GET", "/v1/decisions/req_1", None),
    ("GET", "/budgets", None),
    ("GET", "/v1/costs?start_time=1", None),
    ("GET", "/v1/usage?start_time=1", None),
    ("GET", "/v1/organization/costs?start_time=1", None),
    ("GET", "/v1/organization/usage/completions?start_time=1", None),
    ("GET", "/metrics", None),
]
ADMIN_ONLY = {"/metrics"}
OPEN = ["/health", "/health/liveness", "/health/liveliness", "/health/readiness", "/health/chat"]


def without_admin() -> Any:
    """The policy without the key that has rights."""
    plain = policy()
    del plain["tenants"]["ops"]
    return plain


async def test_no_route_answers_without_a_known_key(tmp_path: Path) -> None:
    """Where an admin key exists, every route but health asks for a key, and says 401 to a wrong one."""
    async with before_simulated(tmp_path) as endpoint:
        for method, path, body in ROUTES:
            for key in (None, "sk-wrong", "", "sk-acme-012345678", "sk-acme-0123456789x"):
                reply = await endpoint.ask(method, path, key, json=body)
                assert (reply.status, reply.code) == (401, "invalid_api_key"), (path, key)
        for path in OPEN:
            assert (await endpoint.ask("GET", path, None)).status == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic c2stYWNtZQ==", "sk-acme-0123456789", "Bearer\tx"])
async def test_a_header_that_holds_no_bearer_key_is_refused(tmp_path: Path, header: str) -> None:
    """Only `Authorization: Bearer KEY` counts, on both kinds of routes."""
    async with before_simulated(tmp_path) as endpoint:
        for method, path, body in (ROUTES[0], ROUTES[6]):
            reply = await endpoint.ask(method, path, None, json=body, headers={"Authorization": header})
            assert (reply.status, reply.code) == (401, "invalid_api_key")


async def test_the_scheme_s_case_does_not_matter(tmp_path: Path) -> None:
    """HTTP's schemes have no case."""
    async with before_simulated(tmp_path) as endpoint:
        reply = await endpoint.ask("GET", "/v1/models", None, headers={"authorization": "bearer sk-acme-0123456789"})
    assert reply.status == 200


async def test_known_keys_may_use_what_is_theirs(tmp_path: Path) -> None:
    """A tenant's key works everywhere but where a right is needed; the admin's works everywhere."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        for method, path, body in ROUTES:
            plain, admin = [await endpoint.ask(method, path, key, json=body) for key in ("acme", "ops")]
            if path in ADMIN_ONLY or "warmup" in path:
                assert (plain.status, plain.code) == (403, "permission_denied"), path
                assert admin.status in (200, 202), path
            elif "decisions" in path:
                assert [plain.status, admin.status] == [404, 404]
            else:
                assert [plain.status, admin.status] == [200, 200], path


async def test_a_key_sees_its_own_rows_only(tmp_path: Path) -> None:
    """Decisions, costs, usage and budgets of another tenant look as if they did not exist; an admin sees all."""
    caps = [
        {"name": "day", "amount_usd": 5, "window": "24h", "scope": "tenant:acme"},
        {"name": "day", "amount_usd": 6, "window": "24h", "scope": "tenant:globex"},
        {"name": "key", "amount_usd": 7, "window": "24h", "scope": "key:globex-key"},
        {"name": "all", "amount_usd": 8, "window": "24h", "scope": "class:chat"},
    ]
    async with before_simulated(tmp_path, policy(caps=caps), awake=("mid",)) as endpoint:
        ids = {}
        for key in ("acme", "globex"):
            ids[key] = (await endpoint.chat(key, max_tokens=2)).headers["x-sluice-request-id"]
        seen = {key: await what_is_seen(endpoint, key, ids) for key in ("acme", "globex", "ops")}
    assert seen["acme"] == ({"acme"}, {"acme"}, {"tenant:acme"})
    assert seen["globex"] == ({"globex"}, {"globex"}, {"tenant:globex", "key:globex-key"})
    assert seen["ops"] == (
        {"acme", "globex"},
        {"acme", "globex"},
        {"tenant:acme", "tenant:globex", "key:globex-key", "class:chat"},
    )


async def what_is_seen(endpoint: Endpoint, key: str, ids: dict[str, str]) -> tuple[set[str], set[str], set[str]]:
    """Tenants whose requests a key can look up, tenants whose usage it sees, and scopes of caps it sees."""
    found = set()
    for tenant, request_id in ids.items():
        reply = await endpoint.ask("GET", f"/v1/decisions/{request_id}", key)
        assert reply.status in (200, 404)
        if reply.status == 200:
            assert reply.json["tenant"] == tenant
            found.add(tenant)
    since = int(endpoint.service.started_s) - 60
    usage = (await endpoint.ask("GET", f"/v1/usage?start_time={since}&group_by=project_id", key)).json
    tenants = {one["project_id"] for bucket in usage["data"] for one in bucket["results"]}
    budgets = (await endpoint.ask("GET", "/budgets", key)).json["data"]
    return found, tenants, {cap["scope"] for cap in budgets}


async def test_a_tenant_cannot_widen_its_question(tmp_path: Path) -> None:
    """Naming another's key in a filter shows nothing of it; naming another tenant is refused."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint:
        await endpoint.chat("globex", max_tokens=2)
        since = int(endpoint.service.started_s) - 60
        path = f"/v1/usage?start_time={since}&api_key_ids=globex-key"
        own = (await endpoint.ask("GET", path, "acme")).json
        refused = await endpoint.ask("GET", f"{path}&project_ids=globex", "acme")
        admins = (await endpoint.ask("GET", f"{path}&project_ids=globex", "ops")).json
    assert [bucket["results"] for bucket in own["data"] if bucket["results"]] == []
    assert (refused.status, refused.code) == (403, "permission_denied")
    assert [bucket["results"] for bucket in admins["data"] if bucket["results"]] != []


async def test_a_tenant_uses_the_classes_it_was_given(tmp_path: Path) -> None:
    """A class that the policy does not give to a tenant is refused by name, and not listed."""
    limited = policy()
    limited["tenants"]["acme"]["classes"] = ["text"]
    async with before_simulated(tmp_path, limited) as endpoint:
        refused = await endpoint.chat()
        routed = await endpoint.ask("POST", "/v1/route", json=BODY)
        listed = (await endpoint.ask("GET", "/v1/models")).json["data"]
        one = await endpoint.ask("GET", "/v1/models/chat")
    assert (refused.status, refused.code) == (403, "permission_denied")
    assert routed.status == 403
    assert {model["id"].split(":")[0] for model in listed} == {"text"}
    assert one.status == 404


async def test_without_an_admin_key_this_machine_sees_all(tmp_path: Path) -> None:
    """What shows money or state answers on loopback without a key, until an admin key exists; running does not."""
    async with before_simulated(tmp_path, without_admin(), awake=("mid",)) as endpoint:
        await endpoint.chat(max_tokens=2)
        for path in ("/budgets", "/metrics", "/v1/costs?start_time=1"):
            assert (await endpoint.ask("GET", path, None)).status == 200, path
        for method, path, body in ROUTES[:4]:
            assert (await endpoint.ask(method, path, None, json=body)).status == 401, path
        assert (await endpoint.ask("GET", "/metrics", "acme")).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:80"},
        {"Host": "localhost:x"},
        {"Host": ""},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
    ],
)
async def test_loopback_is_what_was_meant_for_it(tmp_path: Path, headers: dict[str, str]) -> None:
    """A page that resolves its own name to 127.0.0.1, and a proxy that hands on for others, are not this machine."""
    async with before_simulated(tmp_path, without_admin()) as endpoint:
        assert (await endpoint.ask("GET", "/budgets", None, headers=headers)).status == 401


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
async def test_names_of_this_machine_are_loopback(tmp_path: Path, host: str) -> None:
    """With or without a port, in any case."""
    async with before_simulated(tmp_path, without_admin()) as endpoint:
        assert (await endpoint.ask("GET", "/budgets", None, headers={"Host": host})).status == 200


async def test_without_tenants_this_machine_is_served(tmp_path: Path) -> None:
    """A policy that names no tenants serves loopback as tenant `local`, with every right; others get 401."""
    async with before_simulated(tmp_path, policy(tenants={}), awake=("mid",)) as endpoint:
        reply = await endpoint.ask("POST", CHAT, None, json=BODY)
        refused = await endpoint.ask("POST", CHAT, None, json=BODY, headers={"Host": "evil.example"})
        request = await endpoint.request()
        assert (await endpoint.ask("POST", "/warmup", None, json={"pool": "mid"})).status == 202
    assert reply.status == 200
    assert (refused.status, refused.code) == (401, "invalid_api_key")
    assert (request.tenant, request.key_id) == ("local", "local")
