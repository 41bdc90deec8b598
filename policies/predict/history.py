"""What answers came to so far: of a tenant in a class, and of requests alike among them.

The way from the prior to what was seen is smooth: a quantile is the mean of the logarithms of the prior's and the
tenant's, the prior counted as `PRIOR_ANSWERS` answers and the tenant's as many as there are; the same once more from
there to the template's. What is seen of requests alike is worth more than anything else that is known before an answer
(`docs/prediction.md` has the figures).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log1p
from typing import Final, TypeVar

import msgspec

from policies.predict.lengths import LastLengths
from policies.predict.prior import prior_logs
from policies.predict.question import QUANTILES, Question, Template

LAST: Final = 128  # answers of a tenant that are remembered: enough to hold rare long ones, soon forgotten
RECENT: Final = 16  # its newest ones, which show a change first
ALIKE: Final = 32  # answers of one template
PRIOR_ANSWERS: Final = 4  # 4 measured better than 8 and 16 on four traces
UNKNOWN: Final = -1.0  # below every length, so that a tree can tell it from all of them with one threshold
TENANTS_AT_MOST: Final = 10_000  # tenant × class; 1.8 KiB each
TEMPLATES_AT_MOST: Final = 20_000  # 0.6 KiB each

K = TypeVar("K")
V = TypeVar("V")
_MEDIAN, _P90 = QUANTILES


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What answers came to, in tokens; `UNKNOWN` where there were none. `expected_logs` is ln(1 + tokens) at
    `QUANTILES`, prior included: what is expected without a model.
    """

    answers: int
    median: float
    p90: float
    recent_median: float
    alike: int
    alike_median: float
    alike_p90: float
    expected_logs: tuple[float, float]


class _Tenant:
    """A tenant's last answers in one class."""

    __slots__ = ("last", "recent")

    def __init__(self) -> None:
        self.last = LastLengths(LAST)
        self.recent = LastLengths(RECENT)


class OutputHistory:
    """Bounded: who has not been heard of for longest is forgotten first. Learnt again within dozens of answers."""

    def __init__(self) -> None:
        self._tenants: dict[tuple[str, str], _Tenant] = {}
        self._templates: dict[Template, LastLengths] = {}

    def seen(self, question: Question) -> Seen:
        median, p90 = prior_logs(question.prompt_tokens)
        tenant = self._tenants.get((question.tenant, question.request_class))
        if tenant is None:
            return Seen(0, UNKNOWN, UNKNOWN, UNKNOWN, 0, UNKNOWN, UNKNOWN, (median, p90))
        last = tenant.last
        answers, own_median, own_p90 = len(last), last.quantile(_MEDIAN), last.quantile(_P90)
        median, p90 = _blend(PRIOR_ANSWERS, median, p90, answers, own_median, own_p90)
        recent = tenant.recent.quantile(_MEDIAN)
        alike = self._templates.get(question.template())
        if alike is None:
            return Seen(answers, own_median, own_p90, recent, 0, UNKNOWN, UNKNOWN, (median, p90))
        like_median, like_p90 = alike.quantile(_MEDIAN), alike.quantile(_P90)
        logs = _blend(PRIOR_ANSWERS, median, p90, len(alike), like_median, like_p90)
        return Seen(answers, own_median, own_p90, recent, len(alike), like_median, like_p90, logs)

    def add(self, question: Question, tokens: int) -> None:
        """Learn from a complete answer of `tokens`, 0 or more."""
        tenant = _newest(self._tenants, (question.tenant, question.request_class), TENANTS_AT_MOST, _Tenant)
        tenant.last.add(tokens)
        tenant.recent.add(tokens)
        _newest(self._templates, question.template(), TEMPLATES_AT_MOST, _Alike).add(tokens)

    def running(self, tenant: str, request_class: str) -> int | None:
        """What an answer comes to that is found running, on average; None while too few were seen to tell.

        Long answers run longer, so that there are more of them among those that run than among those asked for: the
        mean of lengths weighted by length. Where the median is 18 tokens it can be 120 (LLM-Pilot's requests).
        """
        known = self._tenants.get((tenant, request_class))
        return None if known is None else known.last.weighted_mean()


def _blend(weight: int, median: float, p90: float, answers: int, own_median: int, own_p90: int) -> tuple[float, float]:
    total = weight + answers
    return (
        (weight * median + answers * log1p(own_median)) / total,
        (weight * p90 + answers * log1p(own_p90)) / total,
    )


def _newest(known: dict[K, V], key: K, at_most: int, make: Callable[[], V]) -> V:
    """An entry, moved to the end of those known; where it is new and there is no room, the one at the front goes."""
    value = known.pop(key, None)
    if value is None:
        value = make()
        if len(known) >= at_most:
            del known[next(iter(known))]
    known[key] = value
    return value


_Alike = partial(LastLengths, ALIKE)
