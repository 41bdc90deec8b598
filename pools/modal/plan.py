"""What is deployed against what is wanted, and what it costs. Pure: nothing is asked of Modal here.

A deployed App carries the digest of its declaration as a tag, so that a plan sees any change, and names those that
other tags tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pools.modal.declare import Declaration
from pricing.clock import US_PER_S
from pricing.money import cost_nusd
from pricing.prices.billed import ALL_BILLED, Billed

_PLAN_TAG: Final = "plan"


class Action(StrEnum):
    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    UNKNOWN = "unknown"  # nobody could be asked what is deployed


@dataclass(frozen=True, slots=True)
class Deployed:
    """One App of ours that is deployed."""

    app: str
    app_id: str
    tags: Mapping[str, str]

    @property
    def pool(self) -> str:
        return self.tags["pool"]


@dataclass(frozen=True, slots=True)
class PoolCost:
    """A container's rate, its modelled boot, and which of its time is billed."""

    rate_nusd_per_h: int
    boot_s: float
    billed: Billed = ALL_BILLED


@dataclass(frozen=True, slots=True)
class Step:
    """One pool's line of a plan. Amounts are nano-dollars.

    `idle_nusd_per_h` is what its minimum of containers costs while nothing runs; `boot_nusd` a boot; `tail_nusd` the
    scale-down window after the last request. What the price book does not bill is 0.
    """

    declaration: Declaration
    action: Action
    changes: tuple[str, ...]
    rate_nusd_per_h: int
    idle_nusd_per_h: int
    boot_s: float
    boot_nusd: int
    tail_nusd: int

    def as_json(self) -> dict[str, Any]:
        return {
            "pool": self.declaration.pool,
            "action": str(self.action),
            "changes": list(self.changes),
            "rate_nusd_per_h": self.rate_nusd_per_h,
            "idle_nusd_per_h": self.idle_nusd_per_h,
            "boot_s": round(self.boot_s, 1),
            "boot_nusd": self.boot_nusd,
            "tail_nusd": self.tail_nusd,
            "declaration": self.declaration.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which pools were named, and Apps of ours that no pool asks for."""

    steps: tuple[Step, ...]
    left_over: tuple[Deployed, ...]

    @property
    def to_deploy(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action is not Action.KEEP)

    @property
    def idle_nusd_per_h(self) -> int:
        return sum(step.idle_nusd_per_h for step in self.steps)


def make_plan(
    declarations: Sequence[Declaration], costs: Mapping[str, PoolCost], deployed: Iterable[Deployed] | None
) -> Plan:
    """The plan. `deployed` is None where Modal could not be asked; every action is then unknown."""
    if deployed is None:
        return Plan(tuple(_step(each, costs[each.pool], Action.UNKNOWN, ()) for each in declarations), ())
    by_app = {each.app: each for each in deployed}
    steps = tuple(_compared(each, costs[each.pool], by_app.get(each.app)) for each in declarations)
    wanted = {each.app for each in declarations}
    return Plan(steps, tuple(each for app, each in by_app.items() if app not in wanted))


def _compared(declaration: Declaration, cost: PoolCost, deployed: Deployed | None) -> Step:
    if deployed is None:
        return _step(declaration, cost, Action.CREATE, ())
    changes = tag_changes(deployed.tags, declaration.tags)
    return _step(declaration, cost, Action.CHANGE if changes else Action.KEEP, changes)


def tag_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What tags tell of a change; where only the digest differs, that there is one."""
    names = sorted((before.keys() | after.keys()) - {_PLAN_TAG})
    told = [f"{name}: {before.get(name, '-')} -> {after.get(name, '-')}" for name in names]
    told = [text for name, text in zip(names, told, strict=True) if before.get(name) != after.get(name)]
    if not told and before.get(_PLAN_TAG) != after.get(_PLAN_TAG):
        return ("its settings, image or engine arguments",)
    return tuple(told)


def _step(declaration: Declaration, cost: PoolCost, action: Action, changes: tuple[str, ...]) -> Step:
    rate = cost.rate_nusd_per_h
    boot_rate, idle_rate = (rate if is_billed else 0 for is_billed in cost.billed)
    return Step(
        declaration=declaration,
        action=action,
        changes=changes,
        rate_nusd_per_h=rate,
        idle_nusd_per_h=idle_rate * declaration.min_containers,
        boot_s=cost.boot_s,
        boot_nusd=cost_nusd(boot_rate, round(cost.boot_s * US_PER_S)),
        tail_nusd=cost_nusd(idle_rate, declaration.scaledown_window_s * US_PER_S),
    )
