"""Facts to decision: capable, then by the class's objective. Pure, and a few microseconds a pool.

Every configured pool, which is every key of `facts.states` and every rung of the class's ladder, ends in exactly one
list. A pool is refused by the first filter that has a reason (`policies/choose/filters.py`); the others are priced
(`policies/choose/price.py`) and ordered (`policies/choose/objectives.py`). Where no pool with a ready container has
room, one that is full may be waited for (`policies/choose/line.py`).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from policies.choose.ask import Ask, ask_of
from policies.choose.decision import Candidate, Decision, Reason, Rejection
from policies.choose.facts import Facts
from policies.choose.filters import POOL_FILTERS, PRICED_FILTERS, PoolFilter
from policies.choose.line import NOT_IN_LINE, has_room_again, instead_of_boot, instead_of_refusal
from policies.choose.objectives import score_of
from policies.choose.preference import Preference, preference_of
from policies.choose.price import price
from policies.policy import Rung
from pools.live.state import COLD_AND_HEALTHY, PoolState

_BY_SCORE: Final = attrgetter("score")
_BY_PREFERENCE: Final = attrgetter("preference", "score")


def decide(facts: Facts) -> Decision:
    """Order the pools that can serve a request and say of every other why it cannot. Reads nothing but `facts`."""
    ask = ask_of(facts)
    rejected = _off_ladder(facts)
    capable = _capable(facts, ask, rejected)
    candidates, late = _affordable_in_time(facts, ask, capable, rejected)
    candidates.sort(key=_BY_PREFERENCE if ask.past else _BY_SCORE)
    if not candidates and ask.booting is not None:
        candidates = _still_booting(facts, ask, rejected)
    waits = NOT_IN_LINE
    if not candidates:
        waits = instead_of_refusal(facts, ask, _to_warm(ask, late), rejected)
    elif candidates[0].wait_s > 0 and not has_room_again(ask, candidates):
        waits = instead_of_boot(facts, ask, candidates[0], rejected)
    request_class, warm = facts.request_class, waits.warm
    return Decision(
        facts.requirements,
        ask.tier,
        request_class.objective,
        tuple(candidates),
        tuple(rejected),
        warm.pool.name if warm else None,
        warm.wait_s if warm else 0.0,
        facts.policy_version,
        facts.price_books,
        facts.now_us,
        None if ask.tier is facts.requirements.tier else facts.room.lowered_by,
        waits.line,
        waits.lines,
    )


def _off_ladder(facts: Facts) -> list[Rejection]:
    listed = facts.request_class.listed
    numbers = {"class": facts.request_class.name}
    return [Rejection(name, Reason.CLASS, numbers) for name in facts.states if name not in listed]


def _capable(facts: Facts, ask: Ask, rejected: list[Rejection]) -> list[tuple[Rung, PoolState]]:
    """The rungs that no filter refuses, with their states; the refused go to `rejected`."""
    filters = [one for one in POOL_FILTERS if one.applies(ask)]
    states = facts.states
    capable = []
    for rung in ask.ladder:
        state = states.get(rung.pool.name, COLD_AND_HEALTHY)
        refusal = _first_refusal(filters, ask, rung, state)
        if refusal is None:
            capable.append((rung, state))
        else:
            rejected.append(refusal)
    return capable


def _first_refusal(filters: list[PoolFilter], ask: Ask, rung: Rung, state: PoolState) -> Rejection | None:
    for one in filters:
        numbers = one.refuse(ask, rung, state)
        if numbers is not None:
            return Rejection(rung.pool.name, one.reason, numbers)
    return None


def _affordable_in_time(
    facts: Facts, ask: Ask, capable: list[tuple[Rung, PoolState]], rejected: list[Rejection]
) -> tuple[list[Candidate], list[Candidate]]:
    """The candidates, unsorted, and those that nothing but the deadline rules out."""
    filters = [one for one in PRICED_FILTERS if one.applies(ask)]
    score = score_of(facts.request_class.objective, facts.request_class.limits)
    preference: Preference | None = preference_of(ask, facts.states) if ask.past else None
    candidates: list[Candidate] = []
    late: list[Candidate] = []
    for rung, state in capable:
        candidate = price(ask, rung, state, score, preference)
        for one in filters:
            numbers = one.refuse(ask, candidate)
            if numbers is not None:
                rejected.append(Rejection(rung.pool.name, one.reason, numbers))
                if one.reason is Reason.DEADLINE:
                    late.append(candidate)
                break
        else:
            candidates.append(candidate)
    return candidates, late


def _to_warm(ask: Ask, late: list[Candidate]) -> Candidate | None:
    """The pool to wake: the cheapest that would be in time if it were warm."""
    waking = [one for one in late if one.cold and one.ttft_s <= ask.requirements.deadline_s]
    return min(waking, key=attrgetter("expected_bill_nusd"), default=None)


def _still_booting(facts: Facts, ask: Ask, rejected: list[Rejection]) -> list[Candidate]:
    """The pool whose boot the request waits for, where nothing else is left. Its boot may be late, or be taken for one
    that never ends, and end all the same: who waits already waits as long as there is time.
    """
    late = [one for one in rejected if one.pool == ask.booting and one.reason in (Reason.DEADLINE, Reason.BREAKER)]
    awaited = [(rung, facts.states[one.pool]) for one in late for rung in ask.ladder if rung.pool.name == one.pool]
    score = score_of(facts.request_class.objective, facts.request_class.limits)
    preference = preference_of(ask, facts.states) if ask.past else None
    booting = [price(ask, rung, state, score, preference) for rung, state in awaited if not state.ready]
    if booting:
        rejected.remove(late[0])
    return booting
