"""Who is asking: from an API key to a tenant, its rights and the budget scopes it spends in."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from policies.policy import LOCAL_TENANT, ApiKey, Policy
from pricing.budgets.caps import Scope, ScopeKind
from router.errors import ApiError

ADMIN: Final = "admin"
WARMUP: Final = "warmup"
_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
SCOPES_KEPT: Final = 10_000  # about 10 MB
_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")

Headers = Iterable[tuple[bytes, bytes]]


class Caller(msgspec.Struct, frozen=True):
    """`classes` None means every class."""

    tenant: str
    key_id: str
    rights: frozenset[str]
    classes: frozenset[str] | None
    tags: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.rights

    def scopes(self, request_class: str, endpoint: str) -> tuple[Scope, ...]:
        """Every scope that a request of this caller spends in, apart from its pool."""
        return _scopes(self.tenant, self.key_id, self.tags, request_class, endpoint)

    def scopes_at(self, request_class: str, endpoint: str, pool: str) -> tuple[Scope, ...]:
        """The same with those of a pool, which can be capped as a pool and as an endpoint."""
        return _scopes(self.tenant, self.key_id, self.tags, request_class, endpoint, pool)

    def require(self, right: str) -> None:
        """Raises ApiError `permission_denied` when the key lacks a right."""
        if right not in self.rights:
            raise ApiError("permission_denied", f"key '{self.key_id}' lacks the right '{right}'; give it in the policy")


@lru_cache(maxsize=SCOPES_KEPT)
def _scopes(
    tenant: str, key_id: str, tags: tuple[str, ...], request_class: str, endpoint: str, pool: str | None = None
) -> tuple[Scope, ...]:
    """Kept, since a caller's requests have the same ones again and again."""
    own = (
        Scope(ScopeKind.TENANT, tenant),
        Scope(ScopeKind.KEY, key_id),
        Scope(ScopeKind.CLASS, request_class),
        Scope(ScopeKind.ENDPOINT, endpoint),
        *(Scope(ScopeKind.TAG, tag) for tag in tags),
    )
    return own if pool is None else (*own, Scope(ScopeKind.POOL, pool), Scope(ScopeKind.ENDPOINT, pool))


def identify(policy: Policy, headers: Headers, client_host: str | None) -> Caller:
    """The caller by `Authorization: Bearer KEY`. Raises ApiError `invalid_api_key`.

    Keys are looked up by their SHA-256, so the time taken does not depend on how much of a key is right. While a policy
    names no tenants, requests from this machine alone are served, as tenant `local` with every right.
    """
    if not policy.tenants:
        if not is_local(dict(headers), client_host):
            raise ApiError("invalid_api_key", "no tenants are configured, so only this machine is served; add a tenant")
        return Caller(LOCAL_TENANT, LOCAL_TENANT, frozenset({ADMIN, WARMUP}), None, ())
    scheme, _, key = next((value for name, value in headers if name == b"authorization"), b"").partition(b" ")
    if scheme.lower() != b"bearer" or not key:
        raise ApiError("invalid_api_key", "no API key was given; send 'Authorization: Bearer <your key>'")
    return holder_of(policy, hash_of(key))


def hash_of(key: bytes) -> str:
    """What a policy knows an API key by."""
    return hashlib.sha256(key.strip()).hexdigest()


def holder_of(policy: Policy, key_hash: str) -> Caller:
    """Whose key has that hash. Raises ApiError `invalid_api_key`."""
    found = policy.keys.get(key_hash)
    if found is None or not hmac.compare_digest(found.sha256, key_hash):
        raise ApiError("invalid_api_key", "this API key is not known; check it, or ask for a new one")
    return _caller(policy, found)


def _caller(policy: Policy, key: ApiKey) -> Caller:
    tenant = policy.tenants[key.tenant]
    tags = tuple(dict.fromkeys((*tenant.tags, *key.tags)))
    return Caller(tenant.name, key.id, key.rights, tenant.classes, tags)


def identify_viewer(policy: Policy, headers: Headers, client_host: str | None) -> Caller:
    """A caller of a route that shows money or state: a key sees its own, an admin key sees all.

    Without a key, this machine sees all for as long as no admin key exists. Raises ApiError `invalid_api_key`.
    """
    by_name = dict(headers)
    guarded = any(ADMIN in key.rights for key in policy.keys.values())
    if b"authorization" not in by_name and not guarded and is_local(by_name, client_host):
        return Caller(LOCAL_TENANT, LOCAL_TENANT, frozenset({ADMIN, WARMUP}), None, ())
    return identify(policy, by_name.items(), client_host)


def is_local(headers: dict[bytes, bytes], client_host: str | None) -> bool:
    """From loopback, and meant for it.

    A page elsewhere that resolves its own name to 127.0.0.1 is not, and neither is what a proxy on this machine
    hands on for others. A proxy that says nothing of them cannot be told apart: behind one, set an admin key.
    """
    if any(name in headers for name in _FORWARDED):
        return False
    host = headers.get(b"host", b"").decode("latin-1")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return client_host in ("127.0.0.1", "::1") and name.lower() in _LOOPBACK_NAMES
