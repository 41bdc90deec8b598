"""Views of boot and idle: who is shown a pool's container time that no request caused. None of them is ever posted.

    separate    nobody: it stands apart, by account
    weighted    the groups that used the pool, by what their requests cost there while it was busy
    even        the groups that used the pool, each as much as the other

Container time is shared within its pool and, where a report is grouped by what container rows have themselves (pool,
model, GPU, policy version, hour, day, month), within that group: the idle time of Monday falls on those who used the
pool on Monday. Where nobody did, it stands apart. Shares are whole nano-dollars that add up to what is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pricing.money import apportion
from pricing.reports.lines import HouseLine


class HouseView(StrEnum):
    SEPARATE = "separate"
    WEIGHTED = "weighted"
    EVEN = "even"


@dataclass(frozen=True, slots=True)
class Use:
    """What one group did at one pool: `busy_nusd` and how many `attempts`; `place` says where it may be shared.

    `order` says who comes first among those with equal remainders: the same, however a report orders its groupings.
    """

    key: tuple[str, ...]
    place: tuple[str, ...]
    busy_nusd: int
    attempts: int
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shared:
    """One group's share of one container account, and of what was observed of it."""

    key: tuple[str, ...]
    account: str
    amount_nusd: int
    observed_nusd: int


@dataclass(frozen=True, slots=True)
class Containers:
    """Container time of one account at one `place`, with the key that its line has where it stands apart."""

    line: HouseLine
    place: tuple[str, ...]


def share(
    containers: Iterable[Containers], uses: Iterable[Use], view: HouseView
) -> tuple[list[Shared], list[HouseLine]]:
    """Shares of the groups, and the container time that stands apart in this view."""
    by_place = _weights(uses, view)
    shared: list[Shared] = []
    apart: list[HouseLine] = []
    for one in containers:
        weights = by_place.get(one.place)
        if weights is None:
            apart.append(one.line)
            continue
        amounts = apportion(one.line.amount_nusd, list(weights.values()))
        observed = apportion(one.line.observed_nusd, list(weights.values()))
        for key, amount_nusd, observed_nusd in zip(weights, amounts, observed, strict=True):
            shared.append(Shared(key, one.line.account, amount_nusd, observed_nusd))
    return shared, apart


def _weights(uses: Iterable[Use], view: HouseView) -> Mapping[tuple[str, ...], Mapping[tuple[str, ...], int]]:
    """By place, what each group weighs there, in their order; places that nobody used are left out."""
    if view is HouseView.SEPARATE:
        return {}
    sums: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, int]] = {}
    for use in sorted(uses, key=lambda use: (use.order, use.key)):
        busy_nusd, attempts = sums.get((use.place, use.key), (0, 0))
        sums[use.place, use.key] = (busy_nusd + use.busy_nusd, attempts + use.attempts)
    found: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
    for (place, key), (busy_nusd, attempts) in sums.items():
        weight = max(0, busy_nusd) if view is HouseView.WEIGHTED else int(attempts > 0)
        if weight:
            found.setdefault(place, {})[key] = weight
    return found
