"""Sessions of the dashboard."""

from __future__ import annotations

from router.dashboard.sessions import KEPT_AT_MOST, LASTS_S, Sessions


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_token_stands_for_its_key_until_it_ends() -> None:
    """Twelve hours from when it began, used or not."""
    time = Time()
    sessions = Sessions(time)
    token = sessions.open("key")
    time.now_s += LASTS_S - 1
    assert sessions.key_of(token) == "key"
    time.now_s += 1
    assert sessions.key_of(token) is None


def test_a_closed_session_is_over_and_others_are_not() -> None:
    """Tokens of one key are different, and end one by one."""
    sessions = Sessions(Time())
    one, other = sessions.open("key"), sessions.open("key")
    assert one != other
    sessions.close(one)
    sessions.close("unknown")
    sessions.close(None)
    assert [sessions.key_of(token) for token in (one, other, "unknown", "", None)] == [None, "key", None, None, None]


def test_there_are_only_so_many() -> None:
    """Then the oldest end, and those that have ended make room first."""
    time = Time()
    sessions = Sessions(time)
    first = sessions.open("first")
    time.now_s += LASTS_S
    second = sessions.open("second")
    for number in range(KEPT_AT_MOST - 1):
        sessions.open(str(number))
    assert (sessions.key_of(first), sessions.key_of(second)) == (None, "second")
    sessions.open("one more")
    assert sessions.key_of(second) is None
