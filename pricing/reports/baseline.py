"""The baseline that a saving is stated against, and what it would have needed.

    as recorded    the premium pool of each request's class, as the endpoint worked it out when the request ended:
                   beside as many others as ran then
    a named pool   all requests on that one: their mean prompt and answer by group and class, in full containers
                   (beside target_concurrency - 1 others), at the rate in force now. Full containers are the least that
                   it could have cost, so the saving is no less than what is said.

Both are what requests with counted tokens would have been expected to cost while the pool was busy; boot and idle are
in neither side. Requests without tokens, as those that were refused or asked for pictures, have no part in a named
pool's baseline, while what they cost counts on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
    """With `pool`, all requests on that one; else as recorded, where `premium` says which pool that was, by class.

    `only_policy` is the policy version whose pools `premium` names, where nobody said that these are the ledger's: they
    are told for a window with rows of that version alone. None where somebody did.
    """

    title: str
    pool: BaselinePool | None = None
    premium: Mapping[str, BaselinePool] = field(default_factory=dict, hash=False)
    only_policy: str | None = None


AS_RECORDED = Baseline("all on the premium pool of each request's class")


@dataclass(frozen=True, slots=True)
class Needed:
    """What a baseline would have needed of one pool. `container_us` None: nobody says what the pool's rate was."""

    pool: str
    gpu: str
    gpu_count: int
    nusd: int
    container_us: int | None


def compare(
    baseline: Baseline, asked: Sequence[Asked], lines: Mapping[Key, Line]
) -> tuple[dict[Key, Line], tuple[Needed, ...]]:
    """The lines with their baseline, and what it would have needed."""
    if baseline.pool is None:
        return dict(lines), _recorded(baseline.premium, asked)
    return _on_one(baseline.pool, asked, lines)


def _recorded(premium: Mapping[str, BaselinePool], asked: Iterable[Asked]) -> tuple[Needed, ...]:
    by_class: dict[str, int] = {}
    for each in asked:
        by_class[each.request_class] = by_class.get(each.request_class, 0) + each.line.baseline_nusd
    found: dict[str, Needed] = {}
    for name, nusd in by_class.items():
        if nusd:
            pool = premium.get(name)
            needed = found.get(pool.name if pool else "-", _nothing(pool))
            found[needed.pool] = _more(needed, nusd, pool)
    return tuple(sorted(found.values(), key=lambda each: (-each.nusd, each.pool)))


def _nothing(pool: BaselinePool | None) -> Needed:
    return Needed("-", "-", 0, 0, None) if pool is None else Needed(pool.name, pool.gpu, pool.gpu_count, 0, 0)


def _more(needed: Needed, nusd: int, pool: BaselinePool | None) -> Needed:
    if needed.container_us is None or pool is None or not pool.nusd_per_h:
        return replace(needed, nusd=needed.nusd + nusd, container_us=None)
    container_us = half_even_nusd(nusd * US_PER_HOUR, pool.nusd_per_h)
    return replace(needed, nusd=needed.nusd + nusd, container_us=needed.container_us + container_us)


def _on_one(
    pool: BaselinePool, asked: Iterable[Asked], lines: Mapping[Key, Line]
) -> tuple[dict[Key, Line], tuple[Needed, ...]]:
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
