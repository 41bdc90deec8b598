"""What a client's `model` means: a class, `class:tier`, a pool's name, or an alias for one of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from policies.errors import UnknownModel
from policies.policy import Policy
from policies.requirements import Tier

MOST_ALIAS_STEPS: Final = 8  # aliases may point at aliases; the loader refuses cycles, this bounds the walk
_TIERS: Final = {tier.value: tier for tier in Tier}


@dataclass(frozen=True, slots=True)
class Resolved:
    """`tier` None means the class's default tier. A pinned pool is served by nothing else and never lowered."""

    request_class: str
    tier: Tier | None
    pinned_pool: str | None


def resolve(policy: Policy, model: str) -> Resolved:
    """Look a model name up, exactly as written. Raises UnknownModel.

    A class wins over a pool of the same name, so that a class can never be shadowed.
    """
    name = model
    for _ in range(MOST_ALIAS_STEPS):
        target = None if name in policy.classes else policy.aliases.get(name)
        if target is None:
            break
        name = target
    class_name, colon, tier_name = name.rpartition(":")
    if name in policy.classes:
        return Resolved(name, None, None)
    if colon and class_name in policy.classes and tier_name in _TIERS:
        return Resolved(class_name, _TIERS[tier_name], None)
    home = _class_of(policy, name)
    if home is not None:
        return Resolved(home, None, name)
    raise _unknown(policy, model)


def names(policy: Policy) -> list[str]:
    """Every name that resolves: classes, each with its tiers, aliases, pools."""
    pools = {rung.pool.name for request_class in policy.classes.values() for rung in request_class.ladder}
    tiers = [f"{name}:{tier}" for name in policy.classes for tier in Tier]
    return [*policy.classes, *tiers, *policy.aliases, *sorted(pools)]


def _class_of(policy: Policy, pool: str) -> str | None:
    """The first class, in the files' order, whose ladder lists a pool."""
    for request_class in policy.classes.values():
        if any(rung.pool.name == pool for rung in request_class.ladder):
            return request_class.name
    return None


def _unknown(policy: Policy, model: str) -> UnknownModel:
    if model in policy.pools:
        text = f"pool '{model}' is on no class's ladder, so no request can be sent there"
        return UnknownModel(model, (), text)
    close = tuple(closest(model, names(policy)))
    shown = model if len(model) <= 80 else model[:80] + "…"
    nearest = f"; the nearest name{'s are' if len(close) > 1 else ' is'} {', '.join(close)}"
    hint = nearest if close else f"; classes are {', '.join(policy.classes)}"
    return UnknownModel(model, close, f"there is no model '{shown}'{hint}; GET /v1/models lists all")


def closest(word: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` choices that look like `word`, ignoring case, the closest first."""
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    found = difflib.get_close_matches(word[:80].lower(), by_lower, n=count, cutoff=0.5)
    return [by_lower[match] for match in found]
