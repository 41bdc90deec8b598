"""Who sends which recorded request: tenants, classes, tiers and how they ask, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from router.demo.trace import TraceRow

T = TypeVar("T")

STREAMED_SHARE: Final = 2 / 3
BOUNDED_SHARE: Final = 0.4
"""Share of clients that send `max_tokens`."""

BOUNDS: Final = (256, 512, 1024, 2048)
"""What they send: the first of these that their recorded answer fits in, as clients choose a bound with room."""

TRIAL: Final = "trial"
"""The tenant whose budget runs out."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How often (a weight) a tenant asks for a class and tier."""

    request_class: str
    tier: str
    weight: float


@dataclass(frozen=True, slots=True)
class TenantProfile:
    """A tenant's share of the traffic (a weight) and its habits."""

    name: str
    weight: float
    habits: tuple[Habit, ...]


PROFILES: Final = (
    TenantProfile("support-desk", 0.34, (Habit("chat", "economy", 0.7), Habit("chat", "standard", 0.3))),
    TenantProfile("ide-plugin", 0.28, (Habit("code", "economy", 0.75), Habit("code", "standard", 0.25))),
    TenantProfile("newsletter", 0.16, (Habit("chat", "economy", 1.0),)),
    TenantProfile(
        "shop-photos",
        0.14,
        (Habit("vision", "economy", 0.6), Habit("vision", "standard", 0.4)),
    ),
    TenantProfile(TRIAL, 0.08, (Habit("chat", "economy", 0.6), Habit("chat", "standard", 0.4))),
)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request to come, `at_s` simulated seconds after the first. `max_tokens` None: the client gives no bound."""

    number: int  # starts at 1
    at_s: float
    tenant: str
    request_class: str
    tier: str
    input_tokens: int
    output_tokens: int
    stream: bool
    max_tokens: int | None

    @property
    def model(self) -> str:
        """What the client asks for."""
        return f"{self.request_class}:{self.tier}"


def plan(rows: Sequence[TraceRow], seed: int) -> list[PlannedRequest]:
    """One request for each row, the same for the same seed; what a row states is kept.

    A tenant that only the trace knows has the habits of all the others.
    """
    rng = random.Random(f"{seed}/plan")
    return [_planned(number, row, rng) for number, row in enumerate(rows, 1)]


def _planned(number: int, row: TraceRow, rng: random.Random) -> PlannedRequest:
    known = [one for one in PROFILES if row.tenant == one.name] or PROFILES
    profiles = [one for one in known if _habits(one, row)] or known
    profile = _draw(rng, profiles, [one.weight for one in profiles])
    habits = _habits(profile, row) or profile.habits
    habit = _draw(rng, habits, [one.weight for one in habits])
    stream = rng.random() < STREAMED_SHARE
    bounded = rng.random() < BOUNDED_SHARE
    return PlannedRequest(
        number=number,
        at_s=row.at_s,
        tenant=row.tenant or profile.name,
        request_class=row.request_class or habit.request_class,
        tier=row.tier or habit.tier,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        stream=stream,
        max_tokens=next((bound for bound in BOUNDS if bound >= row.output_tokens), None) if bounded else None,
    )


def _draw(rng: random.Random, items: Sequence[T], weights: Iterable[float]) -> T:
    return rng.choices(items, list(weights))[0]


def _habits(profile: TenantProfile, row: TraceRow) -> list[Habit]:
    """Those of a tenant that agree with what a row states."""
    stated = (row.request_class, row.tier)
    return [
        habit
        for habit in profile.habits
        if all(given in (None, own) for given, own in zip(stated, (habit.request_class, habit.tier), strict=True))
    ]
