"""Time in Redis: it never runs backwards and never stops, whatever the server's clock does."""

from __future__ import annotations

import uuid

import pytest

from pricing.redis.scripts import script, script_of
from support.real_redis import RedisServer

S = 1_000_000
BEGIN = 1_767_225_600 * S
# The server's own clock cannot be set from here: the script is told what it would show.
FRAGMENT = script("clock").text
ASK = script_of("ask", FRAGMENT.replace(b"redis.call('TIME')", b"{ 0, ARGV[1] }") + b"\nreturn time_now(KEYS[1], '')")
AGREE = script_of("agree", script("agree").text.replace(b"redis.call('TIME')", b"{ 0, ARGV[4] }"))


class Server:
    """Redis whose clock shows what a test says."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = f"{{t{uuid.uuid4().hex[:12]}}}:"

    def shows(self, *seconds: float) -> list[float]:
        """The time of a step at each instant that the clock shows, seconds since the beginning."""
        return [(self._ask(BEGIN + round(at * S)) - BEGIN) / S for at in seconds]

    def _ask(self, us: int) -> int:
        return int(self.server.command("EVAL", ASK.text, 1, self.prefix, us))

    def agrees(self, shown: float, replica: float) -> float:
        """A replica whose own clock shows `replica` looks at the server's."""
        words = ("EVAL", AGREE.text, 1, self.prefix, "", BEGIN + round(replica * S), 60 * S, BEGIN + round(shown * S))
        return (int(self.server.command(*words)) - BEGIN) / S


@pytest.fixture
def clock(redis_server: RedisServer) -> Server:
    return Server(redis_server)


def test_a_clock_that_is_right_is_the_time(clock: Server) -> None:
    """Steps are taken at what the server shows, also after hours without any."""
    assert clock.shows(0, 1, 1, 3599, 7000) == [0, 1, 1, 3599, 7000]


@pytest.mark.parametrize("back_s", [3, 3600, 400 * 86_400])
def test_time_goes_on_behind_a_clock_that_was_ahead(clock: Server, back_s: int) -> None:
    """After a failover to a host that is behind, or a boot with a wrong date, time passes at its pace: what runs
    is metered and leases end.
    """
    assert clock.shows(100, 100 - back_s, 101 - back_s, 103 - back_s, 102 - back_s) == [100, 100, 101, 103, 103]


def test_what_was_behind_and_is_set_right_is_no_time_that_passed(clock: Server) -> None:
    """A clock set back by an hour, and then most of the way forth, has not skipped that; where it passes what was seen
    it is the time again.
    """
    assert clock.shows(0, -3600, -3599, -599, -598) == [0, 0, 1, 11, 12]
    assert clock.shows(13, 14) == [13, 14]


def test_a_date_that_is_far_ahead_ends_nothing_by_itself(clock: Server) -> None:
    """A year ahead by mistake forgets no window: time goes on at its pace, and is right when the clock is again."""
    year = 365 * 86_400
    assert clock.shows(0, year, year + 1, year + 2) == [0, 10, 11, 12]
    assert clock.shows(15, 16) == [15, 16]


def test_a_replica_that_agrees_takes_the_clock_as_it_is(clock: Server) -> None:
    """After a weekend without a replica the first that comes says that it is over; one that disagrees does not."""
    weekend = 2 * 86_400
    assert clock.shows(0) == [0]
    assert clock.agrees(shown=weekend, replica=5) == 10
    assert clock.agrees(shown=weekend + 1, replica=weekend + 30) == weekend + 1
    assert clock.shows(weekend + 2) == [weekend + 2]
