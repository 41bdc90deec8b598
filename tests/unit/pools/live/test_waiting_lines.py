"""Lines of requests that wait for room: who is first, who is woken, and that nobody is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pools.live.waiting_lines import Ticket, WaitingLines


def woken(*tickets: Ticket) -> list[bool]:
    """Whether each was woken since the last look."""
    seen = [ticket.woken.is_set() for ticket in tickets]
    for ticket in tickets:
        ticket.woken.clear()
    return seen


def test_nobody_waits_at_first() -> None:
    """No pool has anybody ahead, and waking is nothing."""
    lines = WaitingLines()
    lines.wake("a")
    lines.wake_all_first()
    assert (dict(lines.ahead_of(None)), len(lines), lines.waiting(["a"])) == ({}, 0, False)


def test_the_first_of_a_line_alone_is_woken_and_hands_on() -> None:
    """A request that leaves a pool wakes one; that one, as it leaves the line, the next."""
    lines = WaitingLines()
    first, second, third = Ticket(), Ticket(), Ticket()
    for each in (first, second, third):
        lines.join(each, ["a"])
    assert [lines.ahead_of(each) for each in (first, third, None, Ticket())] == [{}, {"a": 2}, {"a": 3}, {"a": 3}]
    lines.wake("a")
    assert woken(first, second, third) == [True, False, False]
    lines.leave(first)
    assert woken(second, third) == [True, False]
    lines.leave(third)
    assert woken(second) == [False]
    assert len(lines) == 1


def test_who_has_just_come_is_behind_everybody() -> None:
    """The first in one line may be behind in another; a pool without a line is open to all."""
    lines = WaitingLines()
    first, second = Ticket(), Ticket()
    lines.join(first, ["a"])
    lines.join(second, ["a", "b"])
    assert lines.ahead_of(None) == {"a": 2, "b": 1}
    assert lines.ahead_of(first) == {"b": 1}
    assert lines.ahead_of(second) == {"a": 1}


def test_joining_again_keeps_places() -> None:
    """Whoever looked in vain goes back to where it was; a pool that cannot serve it any more is given up."""
    lines = WaitingLines()
    first, second = Ticket(), Ticket()
    lines.join(first, ["a", "b"])
    lines.join(second, ["a", "b"])
    lines.join(first, ["a"])
    assert woken(first, second) == [False, True]
    assert lines.ahead_of(first) == {"b": 1}
    assert lines.ahead_of(second) == {"a": 1}


def test_leaving_twice_is_leaving_once() -> None:
    """Also for one that never joined."""
    lines = WaitingLines()
    ticket = Ticket()
    lines.leave(ticket)
    lines.join(ticket, ["a"])
    lines.leave(ticket)
    lines.leave(ticket)
    assert len(lines) == 0


actions = st.tuples(st.integers(0, 5), st.frozensets(st.sampled_from("abc")))


@given(st.lists(actions, max_size=60))
def test_every_line_has_a_first_and_a_new_first_is_woken(steps: list[tuple[int, frozenset[str]]]) -> None:
    """Whatever joins and leaves: whoever became first by another's leaving was woken, so that room is never lost."""
    lines = WaitingLines()
    tickets = [Ticket() for _ in range(6)]
    for which, pools in steps:
        ticket = tickets[which]
        firsts = {pool: each for pool in "abc" for each in tickets if _first(lines, each, pool)}
        woken(*tickets)
        if pools:
            lines.join(ticket, sorted(pools))
        else:
            lines.leave(ticket)
        for pool in "abc":
            now_first = next((each for each in tickets if _first(lines, each, pool)), None)
            assert (now_first is None) == (not lines.waiting([pool]))
            if now_first is not None and pool in firsts and firsts[pool] is not now_first:
                assert now_first.woken.is_set()


def _first(lines: WaitingLines, ticket: Ticket, pool: str) -> bool:
    return pool in ticket.pools and pool not in lines.ahead_of(ticket)
