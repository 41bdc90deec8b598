"""From a key to a tenant, and what a machine of one's own may see without one."""

from __future__ import annotations

import hashlib

import pytest

from policies.policy import ApiKey, Policy, Tenant
from router.errors import ApiError
from router.inbound.callers import ADMIN, WARMUP, Caller, Headers, identify, identify_viewer
from support.choosing import shipped
from support.values import replace

HOST = (b"host", b"127.0.0.1:8080")


def with_keys(*keys: ApiKey) -> Policy:
    """The shipped policy with a tenant for each key."""
    tenants = {key.tenant: Tenant(key.tenant, (key,), tags=("team", "all")) for key in keys}
    return replace(shipped(), tenants=tenants, keys={key.sha256: key for key in keys})


def key(tenant: str, *rights: str, tags: tuple[str, ...] = ()) -> ApiKey:
    digest = hashlib.sha256(f"sk-{tenant}".encode()).hexdigest()
    return ApiKey(f"{tenant}-key", tenant, digest, frozenset(rights), tags)


def bearer(tenant: str) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer sk-{tenant}".encode())


PLAIN = with_keys(key("acme", tags=("all", "batch")), key("globex"))
GUARDED = with_keys(key("acme"), key("ops", ADMIN, WARMUP))


def test_a_key_is_its_tenant_with_its_tags_once() -> None:
    """The caller has the tenant's tags and the key's, none twice: a cap on a tag must count a request once."""
    caller = identify(PLAIN, [bearer("acme")], "10.0.0.1")
    assert caller == Caller("acme", "acme-key", frozenset(), None, ("team", "all", "batch"))
    scopes = [str(scope) for scope in caller.scopes("chat", "/v1/completions")]
    assert scopes == [
        "tenant:acme",
        "key:acme-key",
        "class:chat",
        "endpoint:/v1/completions",
        "tag:team",
        "tag:all",
        "tag:batch",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer   ")],
        [(b"authorization", b"Basic sk-acme")],
        [(b"authorization", b"Bearer sk-acm")],
        [(b"authorization", b"Bearer sk-acmee")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"x-api-key", b"sk-acme")],
    ],
)
def test_anything_else_is_nobody(headers: Headers) -> None:
    """One code for a missing and for a wrong key, and no word of what was sent."""
    with pytest.raises(ApiError) as refused:
        identify(PLAIN, headers, "127.0.0.1")
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert "sk-" not in refused.value.message


def test_rights_are_asked_for_by_name() -> None:
    """A key without a right is told which one it lacks."""
    with pytest.raises(ApiError, match="lacks the right 'warmup'") as refused:
        identify(GUARDED, [bearer("acme")], None).require(WARMUP)
    assert refused.value.status == 403
    identify(GUARDED, [bearer("ops")], None).require(WARMUP)
    assert identify(GUARDED, [bearer("ops")], None).is_admin


def test_this_machine_sees_all_until_an_admin_key_exists() -> None:
    """Only without a key: who sends one is whom it belongs to."""
    assert identify_viewer(PLAIN, [HOST], "127.0.0.1").is_admin
    assert identify_viewer(PLAIN, [HOST, bearer("acme")], "127.0.0.1").tenant == "acme"
    for policy, headers, client in (
        (GUARDED, [HOST], "127.0.0.1"),
        (PLAIN, [HOST], "10.0.0.1"),
        (PLAIN, [HOST], None),
        (PLAIN, [], "127.0.0.1"),
        (PLAIN, [(b"host", b"router.example")], "127.0.0.1"),
    ):
        with pytest.raises(ApiError):
            identify_viewer(policy, headers, client)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_without_tenants_this_machine_is_one(client: str) -> None:
    """A fresh installation answers its own machine as tenant `local`, and nobody else."""
    assert identify(shipped(), [HOST], client).tenant == "local"
    with pytest.raises(ApiError, match="no tenants are configured"):
        identify(shipped(), [HOST], "10.0.0.1")
