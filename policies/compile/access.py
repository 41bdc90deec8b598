"""Tenants, keys, caps and rate limits: who may ask for what, how often, and how much they may spend."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policies.files.fileset import FileSet, Placed
from policies.files.schema import CapShape, RateLimitsShape, TenantShape
from policies.policy import ApiKey, Tenant
from pricing.budgets.caps import (
    Cap,
    CapTable,
    RateLimits,
    Scope,
    ScopeKind,
    TemporaryRaise,
    Unlimited,
    parse_scope,
    parse_window,
)
from pricing.clock import US_PER_S
from pricing.money import parse_usd
from pricing.nearest import nearest

_OF_POOLS = (ScopeKind.POOL, ScopeKind.ENDPOINT)  # an endpoint may be a pool


def compile_tenants(files: FileSet, classes: Iterable[str], problems: list[str]) -> dict[str, Tenant]:
    """Tenants with their keys; key ids and hashes are unique over all of them, and their classes exist."""
    entries: dict[str, Placed[TenantShape]] = files.mapping("tenants")
    problems += _repeated_keys(entries.values())
    tenants = {}
    for name, placed in entries.items():
        shape = placed.value
        for index, wanted in enumerate(shape.classes or []):
            if wanted not in classes:
                hint = nearest(wanted, classes) or f"; classes are {', '.join(classes)}"
                text = f"tenant '{name}' may use class '{wanted}', which is none{hint}"
                problems.append(placed.problem(text, "classes", index))
        keys = tuple(ApiKey(k.id, name, k.sha256, frozenset(k.rights), tuple(k.tags)) for k in shape.keys)
        allowed = None if shape.classes is None else frozenset(shape.classes)
        tenants[name] = Tenant(name, keys, allowed, tuple(shape.tags))
    return tenants


def _repeated_keys(tenants: Iterable[Placed[TenantShape]]) -> Iterable[str]:
    """Ids that name two keys, and keys that stand twice."""
    ids: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for placed in tenants:
        for index, key in enumerate(placed.value.keys):
            if key.id in ids:
                text = f"key id '{key.id}' is taken at {ids[key.id]}; give it another"
                yield placed.problem(text, "keys", index)
            if key.sha256 in hashes:
                text = f"key '{key.id}' has the hash of the key at {hashes[key.sha256]}; one key belongs to one tenant"
                yield placed.problem(f"{text}: make a new key", "keys", index)
            place = placed.document.place((*placed.where, "keys", index))
            ids.setdefault(key.id, place)
            hashes.setdefault(key.sha256, place)


def zone_of(files: FileSet, problems: list[str]) -> ZoneInfo:
    """The files' time zone; UTC where they name none."""
    placed = files.single("timezone")
    if placed is None:
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(placed.value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(placed.problem(f"there is no time zone '{placed.value}'; write one like Europe/Berlin or UTC"))
        return ZoneInfo("UTC")


def compile_caps(
    files: FileSet, tenants: Mapping[str, Tenant], known: Mapping[ScopeKind, Collection[str]], problems: list[str]
) -> CapTable:
    """Every cap of tenants and of the files' own `caps:`. `known` is what a scope of each kind may name."""
    zone = zone_of(files, problems)
    caps: dict[str, Cap] = {}
    for placed, owner in _caps_with_owner(files):
        scope = _scope_of(placed, owner, tenants, known, problems)
        if scope is None:
            continue
        cap = _cap(placed, scope, zone)
        if cap.lower_tier_permille is not None and scope.value in known[ScopeKind.POOL] and scope.kind in _OF_POOLS:
            text = f"cap '{cap.label}' is a pool's, and a request has its tier before it has a pool: it lowers nobody's"
            hint = "leave lower_tier out, or put it on a cap of a tenant, key, class, tag or route"
            problems.append(placed.problem(f"{text}; {hint}", "thresholds"))
        if cap.label in caps:
            problems.append(
                placed.problem(f"there is a cap '{cap.label}' at {caps[cap.label].place} already; rename one")
            )
        caps.setdefault(cap.label, cap)
    return CapTable(tuple(caps.values()), zone, compile_limits(files, known[ScopeKind.TENANT]))


def compile_limits(files: FileSet, tenants: Iterable[str]) -> dict[Scope, RateLimits]:
    """The rate limits of every tenant, those under `defaults:` where it says nothing else, and of keys."""
    found: dict[Scope, RateLimits] = {}
    default = files.mapping("defaults").get("limits")
    base = RateLimits() if default is None else _limits_over(RateLimits(), default.value)
    shapes: dict[str, Placed[TenantShape]] = files.mapping("tenants")
    for name in tenants:
        shape = shapes[name].value if name in shapes else TenantShape()
        found[Scope(ScopeKind.TENANT, name)] = _limits_over(base, shape.limits)
        for key in shape.keys:
            found[Scope(ScopeKind.KEY, key.id)] = _limits_over(RateLimits(), key.limits)
    return {scope: limits for scope, limits in found.items() if limits != RateLimits()}


def _limits_over(base: RateLimits, shape: RateLimitsShape) -> RateLimits:
    """`base` with the limits that a file sets; `unlimited` takes one off."""

    def over(written: int | str | None, given: int | None) -> int | None:
        return given if written is None else written if isinstance(written, int) else None

    return RateLimits(
        over(shape.requests_per_minute, base.requests_per_minute),
        over(shape.tokens_per_minute, base.tokens_per_minute),
        over(shape.in_flight, base.in_flight),
    )


def _caps_with_owner(files: FileSet) -> Iterable[tuple[Placed[CapShape], str | None]]:
    for name, tenant in files.mapping("tenants").items():
        for index, cap in enumerate(tenant.value.caps):
            yield Placed(cap, tenant.document, (*tenant.where, "caps", index)), name
    for placed in files.listing("caps"):
        yield placed, None


def _scope_of(
    placed: Placed[CapShape],
    owner: str | None,
    tenants: Mapping[str, Tenant],
    known: Mapping[ScopeKind, Collection[str]],
    problems: list[str],
) -> Scope | None:
    """The scope that a cap means; None, and a problem, where it means nothing."""
    text = placed.value.scope
    if text is None and owner is None:
        problems.append(placed.problem(f"cap '{placed.value.name}' has no scope; add one such as scope: tenant:acme"))
        return None
    if text is None:
        return Scope(ScopeKind.TENANT, str(owner))
    scope = parse_scope(text)
    if owner is not None and not _belongs(scope, tenants[owner]):
        hint = (
            f"under tenant '{owner}' a cap limits that tenant or one of its keys; put others under the file's own caps:"
        )
        problems.append(placed.problem(f"scope '{text}' is not this tenant's: {hint}", "scope"))
        return None
    names = known[scope.kind]
    if scope.value not in names:
        hint = nearest(scope.value, names) or (f"; known: {', '.join(names)}" if names else "; there is none")
        problems.append(placed.problem(f"scope '{text}' names no {scope.kind}{hint}", "scope"))
        return None
    return scope


def _belongs(scope: Scope, tenant: Tenant) -> bool:
    if scope.kind is ScopeKind.KEY:
        return any(key.id == scope.value for key in tenant.keys)
    return scope == Scope(ScopeKind.TENANT, tenant.name)


def _cap(placed: Placed[CapShape], scope: Scope, zone: ZoneInfo) -> Cap:
    shape = placed.value
    return Cap(
        name=shape.name,
        scope=scope,
        amount_nusd=Unlimited.UNLIMITED if isinstance(shape.amount_usd, str) else parse_usd(shape.amount_usd),
        window=parse_window(shape.window),
        warn_permille=shape.thresholds.warn,
        lower_tier_permille=shape.thresholds.lower_tier,
        raises=tuple(TemporaryRaise(parse_usd(one.amount_usd), _instant_us(one.until, zone)) for one in shape.raises),
        place=placed.place,
    )


def _instant_us(moment: datetime, zone: ZoneInfo) -> int:
    """Microseconds since the epoch; without an offset the files' zone counts."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return int(aware.timestamp() * US_PER_S)


def known_tags(tenants: Mapping[str, Tenant]) -> list[str]:
    """Every tag that a tenant or a key carries."""
    tags = {tag for tenant in tenants.values() for tag in tenant.tags}
    return sorted(tags | {tag for tenant in tenants.values() for key in tenant.keys for tag in key.tags})
