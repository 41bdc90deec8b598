"""The meter in Redis is the meter in this process, to the nano-dollar, whatever happens in whatever order."""

from __future__ import annotations

import random
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pricing.meter.pool import PoolMeter
from pricing.prices.billed import ALL_BILLED, Billed
from pricing.redis.scripts import script
from support.real_redis import RedisServer

START_US = 1_767_225_600_000_000
HOUR_US = 3_600_000_000
DEAR = 8 * 6_250_000_000  # eight B200 at $6.25 an hour, nano-dollars
DEAREST = 2**41
STEPS = """
local K = KEYS[1]
local replies = {}
local function say(...)
  replies[#replies + 1] = table.concat({...}, ' ')
end
local steps = {
  enter = function(now, member, weight) meter_enter(K, 'p', member, tonumber(weight), 7, now, 'r1') end,
  leave = function(now, member, entered)
    local charge = meter_leave(K, 'p', member, now)
    say(text(charge), is_observed(load_meter(K, 'p'), tonumber(entered)) and 'observed' or 'modelled')
  end,
  drop = function(now, member) meter_drop(K, 'p', member, now) end,
  containers = function(now, ready, booting) meter_containers(K, 'p', now, tonumber(ready), tonumber(booting), 0) end,
  list = function(now, ready, booting)
    meter_containers(K, 'p', now, tonumber(ready), tonumber(booting), 1)
    meter_listed(K, 'p', now)
  end,
  rate = function(now, rate, target, free)
    meter_rate(K, 'p', now, tonumber(rate), tonumber(target), string.sub(free, 2))
  end,
  missed = function(_, phase, us) meter_missed(K, 'p', phase, tonumber(us)) end,
  read = function(now, member)
    local m = load_meter(K, 'p')
    advance(m, now)
    save_meter(m)
    local accrued, share = reading_of(m, member_of(redis.call('HGET', m.members, member)))
    say(text(accrued), text(share))
  end,
  drain = function(now)
    local m = load_meter(K, 'p')
    advance(m, now)
    for _, name in ipairs({'boot', 'idle', 'adjustment'}) do
      local nusd, us = drain_phase(m, name)
      say(text(nusd), text(us))
    end
    say(text(m.began), is_observed(m, m.drained_at) and 'observed' or 'modelled')
    m.drained_at, m.began = m.at, 0
    fold(m)
    save_meter(m)
  end,
}
for _, words in ipairs(ARGV) do
  local step, now, first, second, third = string.match(words, '^(%S+) (%S+) ?(%S*) ?(%S*) ?(%S*)$')
  steps[step](tonumber(now), first, second, third)
end
return replies
"""


class Lua:
    """Runs the fragments of the meter on a real server, a batch of steps in one script."""

    def __init__(self, server: RedisServer) -> None:
        self._connection = socket.create_connection((server.host, server.port))
        self._reader = hiredis.Reader()
        self._text = script("pools").text + STEPS.encode()

    def run(self, steps: list[str]) -> list[str]:
        words: tuple[Any, ...] = ("EVAL", self._text, 1, f"{{{uuid.uuid4().hex}}}:", *steps)
        self._connection.sendall(hiredis.pack_command(words))
        return [reply.decode() for reply in self._reply()]

    def close(self) -> None:
        self._connection.close()

    def _reply(self) -> list[bytes]:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._connection.recv(65536))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return list(reply)


@pytest.fixture(scope="module")
def lua(redis_server: RedisServer) -> Iterator[Lua]:
    opened = Lua(redis_server)
    yield opened
    opened.close()


def free(billed: Billed) -> str:
    """Phases that are not billed, as one word."""
    return "-" + ",".join(billed.free)


@dataclass
class Both:
    """Takes steps on a meter in this process, and writes them down for the script with what they said here."""

    rate: int
    target: int
    billed: Billed = ALL_BILLED
    now_us: int = START_US
    steps: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    since_us: dict[str, int] = field(default_factory=dict)
    entered: int = 0

    def __post_init__(self) -> None:
        self.meter = PoolMeter("p", self.rate, self.target, self.now_us, self.billed)
        self._note("rate", self.rate, self.target, free(self.billed))

    def _note(self, step: str, *words: object) -> None:
        self.steps.append(" ".join(map(str, (step, self.now_us, *words))))

    def take(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])

    def wait(self, us: int) -> None:
        self.now_us += us

    def enter(self, weight: int) -> None:
        self.entered += 1
        member = f"m{self.entered * 7919 % 1000}:{self.entered}"  # in no order of names
        self.meter.enter(self.now_us, member, weight)
        self.running.append(member)
        self.since_us[member] = self.now_us
        self._note("enter", member, weight)

    def leave(self, which: int) -> None:
        if self.running:
            member = self.running.pop(which % len(self.running))
            charge, since_us = self.meter.leave(self.now_us, member), self.since_us[member]
            self.said.append(f"{charge} {self.meter.evidence(since_us)}")
            self._note("leave", member, since_us)

    def drop(self, which: int) -> None:
        if self.running:
            member = self.running.pop(which % len(self.running))
            self.meter.leave(self.now_us, member)
            self._note("drop", member)

    def read(self, which: int) -> None:
        if self.running:
            member = self.running[which % len(self.running)]
            accrued = self.meter.accrued(self.now_us, member)
            self.said.append(f"{accrued} {self.meter.share_nusd_per_h(self.now_us, member)}")
            self._note("read", member)

    def containers(self, ready: int, booting: int) -> None:
        self.meter.set_containers(self.now_us, ready, booting)
        self._note("containers", ready, booting)

    def list(self, ready: int, booting: int) -> None:
        self.meter.set_containers(self.now_us, ready, booting, listed=True)
        self.meter.listed(self.now_us)
        self._note("list", ready, booting)

    def price(self, rate: int, target: int, billed: Billed) -> None:
        self.meter.set_rate(self.now_us, rate, billed)
        self.meter.set_target(self.now_us, target)
        self._note("rate", rate, target, free(billed))

    def missed(self, phase: str, us: int) -> None:
        self.meter.missed(phase, us)
        self._note("missed", phase, us)

    def drain(self) -> None:
        cost = self.meter.drain(self.now_us)
        self.said += [
            f"{cost.boot_nusd} {cost.boot_us}",
            f"{cost.idle_nusd} {cost.idle_us}",
            f"{cost.adjustment_nusd} {cost.adjustment_us}",
            f"{cost.boots} {cost.evidence}",
        ]
        self._note("drain")

    def end(self) -> None:
        """Everybody leaves, so that all that was busy is charged."""
        while self.running:
            self.leave(0)
        self.drain()


RATES = st.one_of(
    st.integers(0, 10**10), st.sampled_from([DEAR, DEAREST - 1, 3_600_000_000, 590_400_000, 1]), st.integers(0, DEAREST)
)
BILLED = st.builds(Billed, st.booleans(), st.booleans())
WEIGHTS = st.one_of(st.just(1), st.integers(1, 20), st.integers(1, 10**6), st.integers(1, 2**25))
GAPS = st.one_of(
    st.integers(0, 50),
    st.integers(0, 5_000_000),
    st.integers(0, 3 * 24 * HOUR_US),
    st.sampled_from([0, HOUR_US, 12 * HOUR_US]),
)
OTHER_STEP = st.one_of(
    st.tuples(st.just("enter"), WEIGHTS),
    st.tuples(st.just("enter"), WEIGHTS),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.just("read"), st.integers(0, 99)),
    st.tuples(st.just("containers"), st.integers(0, 12), st.integers(0, 3)),
    st.tuples(st.just("list"), st.integers(0, 12), st.integers(0, 3)),
    st.tuples(st.just("missed"), st.sampled_from(["boot", "ready"]), st.integers(-2 * HOUR_US, 2 * HOUR_US)),
    st.tuples(st.just("drain")),
)


def agrees(lua: Lua, both: Both) -> None:
    both.end()
    assert lua.run(both.steps) == both.said


def sequences(rates: st.SearchStrategy[int], gaps: st.SearchStrategy[int]) -> st.SearchStrategy[list[Any]]:
    """Time passes in about a third of the steps."""
    wait = st.tuples(st.just("wait"), gaps)
    price = st.tuples(st.just("price"), rates, st.integers(1, 9), BILLED)
    step = st.one_of(wait, wait, OTHER_STEP, OTHER_STEP, OTHER_STEP, price)
    return st.one_of(st.lists(step, max_size=30), st.lists(step, min_size=30, max_size=100))


@settings(max_examples=300, deadline=None)
@given(rate=RATES, target=st.integers(1, 9), billed=BILLED, steps=sequences(RATES, GAPS))
@example(
    rate=DEAREST,
    target=1,
    billed=ALL_BILLED,
    steps=[("containers", 3, 0), ("enter", 2**31), ("enter", 1), ("wait", 259_200_000_000)],
)
@example(
    rate=DEAR,
    target=2,
    billed=Billed(idle=False),
    steps=[
        ("containers", 1, 1),
        ("enter", 1),
        ("enter", 1),
        ("enter", 1),
        ("wait", 5_000_000),
        ("missed", "ready", 7_000_000),
        ("leave", 0),
        ("leave", 0),
        ("leave", 0),
        ("wait", 3_000_000),
        ("missed", "ready", -4_000_000),
        ("missed", "boot", -1_000_000),
    ],
)
def test_every_sequence_of_steps_costs_the_same(
    lua: Lua, rate: int, target: int, billed: Billed, steps: list[Any]
) -> None:
    """Enters, leaves, weights, scalings, prices, what is billed, late news and drains; gaps from nothing to days."""
    both = Both(rate, target, billed)
    for step in steps:
        both.take(step)
    agrees(lua, both)


@settings(max_examples=200, deadline=None)
@given(
    rate=st.integers(1, 9),
    target=st.integers(1, 3),
    billed=BILLED,
    steps=sequences(st.integers(1, 9), st.sampled_from([HOUR_US // 4, HOUR_US // 2, HOUR_US // 2, HOUR_US])),
)
def test_halves_are_rounded_to_the_same_side(
    lua: Lua, rate: int, target: int, billed: Billed, steps: list[Any]
) -> None:
    """Prices of a few nano-dollars an hour, for half hours: many sums lie exactly between two nano-dollars."""
    both = Both(rate, target, billed)
    for step in steps:
        both.take(step)
    agrees(lua, both)


@pytest.mark.parametrize("weights", [(1, 1), (1, 4096), (100_000, 2**26)])
def test_a_busy_day_of_a_dear_pool(lua: Lua, weights: tuple[int, int]) -> None:
    """Thousands of steps, fifty running at a time on up to nine containers: no rounding is lost or found on the way."""
    chosen = random.Random(7)
    both = Both(DEAR, 4)
    both.containers(2, 1)
    for _ in range(1_500):
        both.wait(chosen.randrange(120_000_000))
        if chosen.random() < 0.5 or not both.running:
            both.enter(chosen.randint(*weights))
        else:
            both.leave(chosen.randrange(99))
        if len(both.running) > 50:
            both.drop(0)
        if chosen.random() < 0.1:
            both.containers(chosen.randrange(10), chosen.randrange(3))
        if chosen.random() < 0.05:
            both.drain()
        if both.running and chosen.random() < 0.2:
            both.read(chosen.randrange(99))
    agrees(lua, both)


def test_a_thousand_members_of_equal_weight(lua: Lua) -> None:
    """A thousand attempts at once on forty containers."""
    both = Both(DEAR, 8)
    both.containers(40, 0)
    for _ in range(1_000):
        both.enter(1)
        both.wait(1_000)
    for _ in range(700):
        both.leave(0)
        both.wait(777)
    agrees(lua, both)
