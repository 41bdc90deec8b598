"""The baseline that a saving is stated against, and what it would have needed.

    as recorded    the premium pool of each request's class, as the endpoint worked it out when the request ended:
                   beside as many others as ran then. What it would have needed is that amount at the rate of that pool
                   under the policy that the request came under; where nobody knows that pool, nothing is made up
    a named pool   all requests on that one: their mean prompt and answer by group and class, in full containers
                   (beside target_concurrency - 1 others), at the rate in force now. Full containers are the least that
                   it could have cost, so the saving is no less than what is said.

Both are what requests with counted tokens would have been expected to cost while the pool was busy; boot and idle are
in neither side. Requests without tokens, as those that were refused or asked for pictures, have no part in a named
pool's baseline, while what they cost counts on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from pricing.ledger.policy_history import PremiumPool
from pricing.money import US_PER_HOUR, half_even_nusd
from pricing.prices.token_price import TokenPrice
from pricing.reports.lines import Line
from pricing.reports.query import Asked, Key


@dataclass(frozen=True, slots=True)
class BaselinePool:
    """A pool as a baseline. `seconds` says how much of a full container one request of so many prompt and output tokens
    takes: its service time ÷ the requests it runs beside, itself included. Of a pool that is billed by the token,
    `tokens` is the price, and its time costs nothing.
    """

    name: str
    gpu: str
    gpu_count: int
    nusd_per_h: int
    seconds: Callable[[float, float], float]
    tokens: TokenPrice | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """With `pool`, all requests on that one; else as recorded, where `stated` has premium pools of policies that the
    ledger may not know, by version.
    """

    title: str
    pool: BaselinePool | None = None
    stated: Mapping[str, tuple[PremiumPool, ...]] = field(default_factory=dict, hash=False)


AS_RECORDED = Baseline("all on the premium pool of each request's class")


@dataclass(frozen=True, slots=True)
class Needed:
    """What a baseline would have needed of one pool. `container_us` None: the pool is billed by the token."""

    pool: str
    gpu: str
    gpu_count: int
    nusd: int
    container_us: int | None


@dataclass(frozen=True, slots=True)
class NotKnown:
    """A recorded baseline of requests under a policy version whose premium pools nobody knows."""

    policy: str
    nusd: int


def as_recorded(
    nusd: Mapping[tuple[str, str], int], premium: Mapping[str, Iterable[PremiumPool]]
) -> tuple[tuple[Needed, ...], tuple[NotKnown, ...]]:
    """What recorded baselines, by policy version and class, would have needed of the premium pools of these versions;
    and what nobody knows. The largest first; together they are all of it.
    """
    pools = {(version, name): pool for version, each in premium.items() for pool in each for name in pool.classes}
    found: dict[tuple[str, str, int], Needed] = {}
    unknown: dict[str, int] = {}
    for (version, request_class), amount in nusd.items():
        pool = pools.get((version, request_class))
        if pool is None:
            unknown[version] = unknown.get(version, 0) + amount
        else:
            what = (pool.pool, pool.gpu, pool.gpu_count)
            found[what] = _more(found.get(what, Needed(*what, 0, 0)), amount, pool.nusd_per_h)
    return (
        tuple(sorted(found.values(), key=lambda each: (-each.nusd, each.pool, each.gpu, each.gpu_count))),
        tuple(NotKnown(*each) for each in sorted(unknown.items(), key=lambda each: (-each[1], each[0]))),
    )


def _more(needed: Needed, nusd: int, nusd_per_h: int) -> Needed:
    if needed.container_us is None or not nusd_per_h:
        return replace(needed, nusd=needed.nusd + nusd, container_us=None)
    container_us = half_even_nusd(nusd * US_PER_HOUR, nusd_per_h)
    return replace(needed, nusd=needed.nusd + nusd, container_us=needed.container_us + container_us)


def all_on(
    pool: BaselinePool, asked: Iterable[Asked], lines: Mapping[Key, Line]
) -> tuple[dict[Key, Line], tuple[Needed, ...]]:
    """The lines with what all that was asked would have cost on one pool, and what it would have needed."""
    found = {key: replace(line, baseline_nusd=0) for key, line in lines.items()}
    whole_nusd = whole_us = 0
    for each in asked:
        if each.line.completion_tokens:
            nusd, container_us = _cost_on(pool, each.line)
            found[each.key] = replace(found[each.key], baseline_nusd=found[each.key].baseline_nusd + nusd)
            whole_nusd, whole_us = whole_nusd + nusd, whole_us + container_us
    needed = Needed(pool.name, pool.gpu, pool.gpu_count, whole_nusd, whole_us if pool.tokens is None else None)
    return found, (needed,) if whole_nusd else ()


def _cost_on(pool: BaselinePool, asked: Line) -> tuple[int, int]:
    """Nano-dollars and container microseconds of requests of one group and class on a pool."""
    if pool.tokens is not None:
        return pool.tokens.cost_nusd(asked.prompt_tokens, asked.completion_tokens), 0
    count = asked.served or asked.requests  # those with tokens, but for a few that broke
    each_s = pool.seconds(asked.prompt_tokens / count, asked.completion_tokens / count)
    container_us = round(count * each_s * 1e6)
    return half_even_nusd(pool.nusd_per_h * container_us, US_PER_HOUR), container_us
