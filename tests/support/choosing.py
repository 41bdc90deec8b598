"""Decisions for tests: the shipped policies, facts with what a test does not care about filled in, ladders by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from policies.choose.facts import CachedPrefix, Facts, PastAttempt
from policies.compile.load import load_policy
from policies.files.fileset import SHIPPED_FOLDER
from policies.policy import Limits, Objective, Policy, RequestClass, Rung
from policies.requirements import Requirements, Tier
from pools.live.state import PoolState
from pricing.budgets.store import Room
from support.values import replace

NOW_US = 1_767_225_600_000_000  # 2026-01-01
NO_LIMIT = Room(left_nusd=None, cap=None, lower_tier=False)
WARM = PoolState(ready=1, idle_s=10.0)
USD = 1_000_000_000
BASE = """\
version: 1
price_book: modal-2026-10
classes:
  chat:
    ladder:
      economy: [qwen3-4b-fp16-t4]
      premium: [qwen3-4b-bf16-a10]
"""


@cache
def shipped(name: str = "default") -> Policy:
    return load_policy([SHIPPED_FOLDER / f"{name}.yaml"], environ={}, now_us=NOW_US)


def write_policy(folder: Path, text: str, name: str = "policy.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(path: Path, **environ: str) -> Policy:
    return load_policy([path], environ=environ, now_us=NOW_US)


def needs(request_class: str, tier: Tier = Tier.STANDARD, prompt: int = 1_000, output: int = 500) -> Requirements:
    return Requirements(
        request_class=request_class,
        tier=tier,
        prompt_tokens=prompt,
        output_bound=output,
        expected_output_tokens=output,
        deadline_s=3_600.0,
    )


def facts(
    requirements: Requirements,
    request_class: RequestClass | None = None,
    states: Mapping[str, PoolState] | None = None,
    *,
    room: Room = NO_LIMIT,
    pool_rooms: Mapping[str, Room] | None = None,
    chain_left_nusd: int | None = None,
    past: Sequence[PastAttempt] = (),
    cached: CachedPrefix | None = None,
) -> Facts:
    """Facts about the shipped policy's class of that name, unless another is given; unnamed pools are cold."""
    chosen = request_class or shipped().classes[requirements.request_class]
    every = {rung.pool.name: PoolState() for rung in chosen.ladder}
    return Facts(
        requirements=requirements,
        request_class=chosen,
        states={**every, **(states or {})},
        room=room,
        pool_rooms=pool_rooms or {},
        chain_left_nusd=chain_left_nusd,
        policy_version="test",
        price_books=("modal-2026-10",),
        now_us=NOW_US,
        past=tuple(past),
        cached=cached,
    )


def rung(pool: str) -> Rung:
    """A rung of the shipped policy, by its pool."""
    found = (one for each in shipped().classes.values() for one in each.ladder if one.pool.name == pool)
    return next(found)


def ladder(*rungs: Rung, objective: Objective = Objective.CHEAPEST, limits: Limits | None = None) -> RequestClass:
    """A class of these rungs, in this order, all under the tiers they have."""
    ordered = tuple(replace(one, order=order) for order, one in enumerate(rungs))
    return RequestClass("chat", objective, Tier.STANDARD, ordered, limits or Limits(), ordered[-1].pool.name)
