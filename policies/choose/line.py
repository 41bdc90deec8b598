"""Whether a request does better to wait in line for a pool that is full than for a container that is to boot. Pure.

A pool with room and a ready container is never passed by for a line. But where every candidate is asleep, a full pool
may have room long before one of them serves, and what is served there buys no boot and no window. Where a boot comes
first, the request stands in line all the same while it waits for that: what room comes earlier is taken.

A pool whose breaker is open is no reason to pass a boot by. Where there is none, the request waits for the one that
tries it to have its answer, and whoever stands in its line already, for the breaker to let somebody try.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from policies.choose.ask import Ask
from policies.choose.decision import FOR_ROOM, NO_LINES, Candidate, Reason, Rejection
from policies.choose.facts import Facts
from policies.choose.filters import MONEY_FILTERS, PRICED_FILTERS
from policies.choose.objectives import Score, score_of
from policies.choose.preference import before_boot, preference_of
from policies.choose.price import price
from policies.policy import Rung
from pools.live.state import COLD_AND_HEALTHY, PoolState


class Waits(msgspec.Struct, frozen=True):
    """See `Decision.line` and `Decision.lines`; `warm` is the pool to wake for those who come later, if any."""

    line: Candidate | None = None
    lines: Mapping[str, int] = NO_LINES
    warm: Candidate | None = None


NOT_IN_LINE: Final = Waits()


class Full(msgspec.Struct, frozen=True):
    """A pool that has no room now: what the request would cost there and take if it had, and once it has."""

    rejection: Rejection
    now: Candidate
    then: Candidate


def instead_of_refusal(facts: Facts, ask: Ask, late: Candidate | None, rejected: list[Rejection]) -> Waits:
    """Where a request without a candidate waits, as long as it has time. `late` is the pool that only its boot makes
    too late: it is to be woken unless a line is better than that.

    A pool that no money is left for, once it has room, is not waited for: its rejection says that instead.
    """
    full = [one for one in _full(facts, ask, rejected) if not _unaffordable(ask, one, rejected)]
    if not full:
        return Waits(warm=late)
    room = [one for one in full if one.rejection.reason in FOR_ROOM]
    better = late is not None and any(_sooner(ask, one, late) for one in room)
    return Waits(_first([one.then for one in full]), _lines(facts, full), None if better else late)


def instead_of_boot(facts: Facts, ask: Ask, boots: Candidate, rejected: list[Rejection]) -> Waits:
    """Whether to stand in line rather than boot the first candidate, and where to stand in line while it boots."""
    full = [one for one in _full(facts, ask, rejected) if one.rejection.reason in FOR_ROOM and _helps(ask, one, boots)]
    sooner = [one.then for one in full if _sooner(ask, one, boots)]
    if sooner:
        return Waits(_first(sooner), _lines(facts, full))
    # Who waits for memory keeps smaller ones behind it from what is free: not while a boot comes for it anyway.
    return Waits(lines=_lines(facts, [one for one in full if one.rejection.reason is not Reason.MEMORY]))


def has_room_again(ask: Ask, candidates: list[Candidate]) -> bool:
    """Whether the first candidate, which is to boot, is first only because an awake one had no room a moment ago. That
    one was waited for, and now has room: it is put first.
    """
    boots = candidates[0]
    again = [one for one in candidates if ask.past and one.wait_s <= 0 and _no_later(ask, one, boots)]
    if not again:
        return False
    found = min(again, key=lambda one: (before_boot(ask, one), one.score))
    candidates.remove(found)
    candidates.insert(0, replace(found, preference=before_boot(ask, found)))
    return True


def _full(facts: Facts, ask: Ask, rejected: list[Rejection]) -> list[Full]:
    waited = {one.pool: one for one in rejected if _worth_waiting(facts, one)}
    if not waited:
        return []
    ask = replace(ask, cached=None)  # by the time that there is room, those who had it may have filled the memory
    score = score_of(facts.request_class.objective, facts.request_class.limits)
    preference = preference_of(ask, facts.states) if ask.past else None
    found = []
    for rung in ask.ladder:
        one = waited.get(rung.pool.name)
        if one is not None:
            state = facts.states.get(one.pool, COLD_AND_HEALTHY)
            now = price(ask, rung, state, score, preference)
            found.append(Full(one, now, _then(one, now, rung, state, ask, score)))
    return found


def _worth_waiting(facts: Facts, one: Rejection) -> bool:
    """Whether a pool that rejects a request now may take it in the time that is left."""
    numbers = one.numbers
    if float(numbers.get("retry_s", 0)) >= facts.requirements.deadline_s:
        return False
    if one.reason is Reason.BREAKER:
        return "misconfigured" not in numbers and ("probed" in numbers or one.pool in facts.in_line)
    alone = one.reason is Reason.MEMORY and "in_flight" not in numbers  # it would not fit an empty one
    return one.reason in FOR_ROOM and not alone


def _then(one: Rejection, now: Candidate, rung: Rung, state: PoolState, ask: Ask, score: Score) -> Candidate:
    """The candidate that the pool is once it has room, as far as can be told."""
    pause_s = float(one.numbers.get("retry_s", 0))
    wait_s = max(pause_s, now.wait_s, _line_s(now.expected_s, state, ask.ahead.get(one.pool, 0)))
    return replace(now, wait_s=wait_s, score=score(rung.order, now.expected_bill_nusd, wait_s + now.expected_s))


def _line_s(service_s: float, state: PoolState, ahead: int) -> float:
    """Until there is room: the requests that run leave, as many take their places, and so on. Each round is counted as
    long as a whole service, as if all had begun just now.
    """
    return service_s * (ahead // max(1, state.company) + 1)


def _unaffordable(ask: Ask, one: Full, rejected: list[Rejection]) -> bool:
    for money in MONEY_FILTERS:
        numbers = money.refuse(ask, one.now) if money.applies(ask) else None
        if numbers is not None:
            rejected[rejected.index(one.rejection)] = Rejection(one.rejection.pool, money.reason, numbers)
            return True
    return False


def _helps(ask: Ask, one: Full, boots: Candidate) -> bool:
    """Whether the pool, if it had room at once, would be taken instead of a boot."""
    if one.now.cold or not _no_later(ask, one.now, boots):
        return False
    return not any(each.applies(ask) and each.refuse(ask, one.now) is not None for each in PRICED_FILTERS)


def _no_later(ask: Ask, one: Candidate, boots: Candidate) -> bool:
    return (before_boot(ask, one), one.score) <= (boots.preference, boots.score)


def _sooner(ask: Ask, one: Full, boots: Candidate) -> bool:
    return one.then.wait_s < boots.wait_s and _no_later(ask, one.then, boots)


def _first(full: list[Candidate]) -> Candidate:
    return min(full, key=lambda then: then.wait_s)


def _lines(facts: Facts, full: list[Full]) -> Mapping[str, int]:
    return {one.rejection.pool: facts.ahead.get(one.rejection.pool, 0) for one in full} if full else NO_LINES
