"""Classes and aliases: ladders whose pools exist and can serve, and names that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from policies.compile.pools import PoolParts
from policies.files.fileset import FileSet, Placed
from policies.files.schema import BreakerShape, ClassShape, LimitKeys
from policies.policy import Limits, RequestClass, Rung
from policies.requirements import Tier
from pools.spec import ModelKind, PoolSpec
from pricing.nearest import nearest

_MEDIUM: Final = {
    ModelKind.TEXT: "text",
    ModelKind.VISION: "text",
    ModelKind.IMAGE: "images",
    ModelKind.VIDEO: "video",
}


def listed_pools(
    classes: Mapping[str, Placed[ClassShape]], known: Mapping[str, PoolSpec], problems: list[str]
) -> dict[str, Placed[object]]:
    """Every pool on a ladder with the first place that lists it; checks names, repetitions and tiers on the way."""
    places: dict[str, Placed[object]] = {}
    for name, placed in classes.items():
        seen: dict[str, Tier] = {}
        for tier, index, pool in _steps(placed.value):
            where = ("ladder", tier.value, index)
            if pool not in known:
                hint = nearest(pool, known) or "; add its row under pools:"
                problems.append(
                    placed.problem(f"class '{name}' lists pool '{pool}', which is in no catalogue{hint}", *where)
                )
                continue
            if pool in seen:
                text = f"pool '{pool}' is on the ladder of class '{name}' already, under {seen[pool]}; list it once"
                problems.append(placed.problem(f"{text}: a pool serves its tier and those below", *where))
            seen.setdefault(pool, tier)
            places.setdefault(pool, Placed(pool, placed.document, (*placed.where, *where)))
        problems += _unserved(name, placed)
        problems += _mixed(name, placed, [known[pool] for pool in seen])
    return places


def _steps(shape: ClassShape) -> Iterable[tuple[Tier, int, str]]:
    """(tier, position, pool), from economy up, in the file's order within a tier."""
    for tier in Tier:
        for index, pool in enumerate(shape.ladder.get(tier, [])):
            yield tier, index, pool


def _unserved(name: str, placed: Placed[ClassShape]) -> list[str]:
    if placed.value.ladder.get(Tier.PREMIUM):
        return []
    served = [tier for tier in Tier if placed.value.ladder.get(tier)]
    lacking = ", ".join(tier.value for tier in Tier if not served or tier.rank > served[-1].rank)
    text = f"nothing serves class '{name}' at {lacking}; list a pool under premium: it serves the tiers below too"
    return [placed.problem(text, "ladder")]


def _mixed(name: str, placed: Placed[ClassShape], pools: list[PoolSpec]) -> list[str]:
    media: dict[str, str] = {}
    for pool in pools:
        media.setdefault(_MEDIUM[pool.model.kind], pool.name)
    if len(media) < 2:
        return []
    what = ", ".join(f"{pool} makes {medium}" for medium, pool in media.items())
    return [
        placed.problem(f"class '{name}' mixes what cannot stand in for each other: {what}; split the class", "ladder")
    ]


def compile_classes(
    classes: Mapping[str, Placed[ClassShape]], defaults: Limits, parts: Mapping[str, PoolParts]
) -> dict[str, RequestClass]:
    """Classes as `decide` reads them. Call it only when `listed_pools` and `compile_pools` found no problem."""
    return {name: _compile(name, placed.value, defaults, parts) for name, placed in classes.items()}


def _compile(name: str, shape: ClassShape, defaults: Limits, parts: Mapping[str, PoolParts]) -> RequestClass:
    ladder = tuple(_rung(parts[pool], tier, order) for order, (tier, _, pool) in enumerate(_steps(shape)))
    return RequestClass(
        name=name,
        objective=shape.objective,
        default_tier=shape.default_tier,
        ladder=ladder,
        limits=limits_over(defaults, shape),
        premium_pool=shape.ladder[Tier.PREMIUM][0],
        description=shape.description,
    )


def contradictions(classes: Mapping[str, Placed[ClassShape]], defaults: Limits) -> Iterable[str]:
    """Keys of a class that contradict each other, those that it takes from `defaults:` included."""
    for name, placed in classes.items():
        limits = limits_over(defaults, placed.value)
        if limits.first_byte_deadline_s > limits.max_total_s:
            deadlines = f"first_byte_deadline_s {limits.first_byte_deadline_s:g}, max_total_s {limits.max_total_s:g}"
            yield placed.problem(f"class '{name}' would end an answer before it begins: {deadlines}; raise max_total_s")
        if limits.hold_lease_s < 2 * limits.hold_tick_s:
            times = f"hold_lease_s {limits.hold_lease_s:g}, hold_tick_s {limits.hold_tick_s:g}"
            yield placed.problem(f"holds of class '{name}' expire between two ticks: {times}; give two ticks a lease")


def _rung(parts: PoolParts, tier: Tier, order: int) -> Rung:
    return Rung(parts.spec, tier, order, parts.rate, parts.fit, parts.boot_s, parts.timing, parts.sequence_tokens)


def limits_over(base: Limits, keys: LimitKeys) -> Limits:
    """`base` with the keys that a file sets."""
    changes: dict[str, Any] = {
        name: getattr(keys, name) for name in LimitKeys.model_fields if getattr(keys, name) is not None
    }
    breaker = changes.get("breaker")
    if isinstance(breaker, BreakerShape):
        changes["breaker"] = replace(base.breaker, **breaker.model_dump(exclude_none=True))
    return replace(base, **changes)


def defaults_of(files: FileSet) -> tuple[Limits, float]:
    """The limits that classes start from, and `reload_poll_s`."""
    limits = Limits()
    reload_poll_s = 2.0
    for _, shape in files.files:
        limits = limits_over(limits, shape.defaults)
        reload_poll_s = shape.defaults.reload_poll_s or reload_poll_s
    return limits, reload_poll_s


def compile_aliases(
    files: FileSet, classes: Iterable[str], pools: Iterable[str], problems: list[str]
) -> dict[str, str]:
    """Aliases that lead to a class, `class:tier` or a pool, over other aliases or not."""
    aliases: dict[str, Placed[str]] = files.mapping("aliases")
    tiers = {f"{name}:{tier}" for name in classes for tier in Tier}
    targets = {*classes, *tiers, *pools}
    for alias, placed in aliases.items():
        if alias in targets:
            problems.append(placed.problem(f"alias '{alias}' hides the class, tier or pool of that name; rename it"))
            continue
        problem = _leads_nowhere(alias, aliases, targets)
        if problem:
            problems.append(placed.problem(problem))
    return {alias: placed.value for alias, placed in aliases.items()}


def _leads_nowhere(alias: str, aliases: Mapping[str, Placed[str]], targets: set[str]) -> str | None:
    trail = [alias]
    while (target := aliases[trail[-1]].value) not in targets:
        if target in trail:
            return f"aliases go in a circle: {' → '.join([*trail, target])}; let one of them name a class"
        if target not in aliases:
            hint = nearest(target, {*targets, *aliases}) or "; name a class, class:tier or pool"
            return f"alias '{alias}' leads to '{target}', which is nothing{hint}"
        trail.append(target)
    return None
