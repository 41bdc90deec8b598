"""Containers as a list shows them and as answers betray them; and that the meter hears of every second in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.live.containers import LATE_LIST_S, Containers
from pools.platform import ContainerInfo
from pricing.clock import US_PER_S
from pricing.meter.meters import Phase


def s(seconds: float) -> int:
    return round(seconds * US_PER_S)


@dataclass
class Meter:
    """Counts container time the way a pool's meter does: from one change to the next, and what was missed."""

    ready: int = 0
    booting: int = 0
    now_us: int = 0
    listed: bool = False
    spent: Counter[Phase] = field(default_factory=Counter)
    missed: list[tuple[Phase, int]] = field(default_factory=list)

    def changed(self, pool: str, now_us: int, ready: int, booting: int, listed: bool) -> None:
        self.until(now_us)
        self.ready, self.booting, self.listed = ready, booting, listed

    def late(self, pool: str, phase: Phase, duration_us: int) -> None:
        self.missed.append((phase, duration_us))
        self.spent[phase] += duration_us

    def until(self, now_us: int) -> Meter:
        self.spent["ready"] += self.ready * (now_us - self.now_us)
        self.spent["boot"] += self.booting * (now_us - self.now_us)
        self.now_us = now_us
        return self


def watched() -> tuple[Containers, Meter]:
    meter = Meter()
    return Containers("p", 0, meter.changed, meter.late), meter


def booting(name: str, started_s: float) -> ContainerInfo:
    return ContainerInfo(name, "booting", s(started_s), None)


def ready(name: str, started_s: float, ready_s: float | None) -> ContainerInfo:
    return ContainerInfo(name, "ready", s(started_s), None if ready_s is None else s(ready_s))


def test_a_start_between_two_polls_is_dated_by_the_list() -> None:
    """Seen at 10 s as started at 7 s: 3 s of boot were missed, and are told."""
    containers, meter = watched()
    containers.observe(s(10), [booting("a", 7)], None)
    assert (containers.ready, containers.booting, meter.missed) == (0, 1, [("boot", s(3))])
    assert containers.boot_age_s(s(12)) == 5.0


def test_the_end_of_a_boot_is_dated_by_the_list() -> None:
    """Ready at 14 s but seen at 20 s: 6 s move from boot to ready."""
    containers, meter = watched()
    containers.observe(s(10), [booting("a", 10)], None)
    containers.observe(s(20), [ready("a", 10, 14)], None)
    assert meter.missed == [("boot", s(-6)), ("ready", s(6))]
    assert meter.until(s(20)).spent == {"boot": s(4), "ready": s(6)}


def test_a_container_that_does_not_say_when_it_was_ready_is_dated_halfway() -> None:
    """Between the poll before and this one."""
    containers, meter = watched()
    containers.observe(s(10), [booting("a", 10)], None)
    containers.observe(s(20), [ready("a", 10, None)], None)
    assert meter.until(s(20)).spent == {"boot": s(5), "ready": s(5)}


@pytest.mark.parametrize(
    ("scale_down_s", "end_s"),
    [(None, 15.0), (12.0, 12.0), (10.0, 15.0), (20.5, 15.0)],  # busy; within the polls; before; after
)
def test_an_end_is_dated_by_the_scale_down_window_or_halfway(scale_down_s: float | None, end_s: float) -> None:
    """The pool's own instant where it lies between the two polls, else the middle of them."""
    containers, meter = watched()
    containers.observe(s(10), [ready("a", 0, 0)], None)
    containers.observe(s(20), [], None if scale_down_s is None else s(scale_down_s))
    assert meter.until(s(20)).spent == {"boot": 0, "ready": s(end_s)}
    assert containers.ready == 0


def test_a_life_is_told_once_when_it_has_ended() -> None:
    """As it is dated: 4 s of boot, and ready from 11 s until halfway between the two looks, 25 s."""
    lives: list[tuple[str, int, int]] = []
    meter = Meter()
    containers = Containers("p", 0, meter.changed, meter.late, on_ended=lambda *life: lives.append(life))
    containers.observe(s(10), [booting("a", 7), booting("b", 9)], None)
    containers.observe(s(20), [ready("a", 7, 11), booting("b", 9)], None)
    assert lives == []
    for now_s in (30, 40):
        containers.observe(s(now_s), [booting("b", 9)], None)
    assert lives == [("p", s(4), s(14))]


def test_what_lived_before_the_watch_began_is_not_counted() -> None:
    """A router that starts at second 0 does not charge what was alive before."""
    containers, meter = watched()
    containers.observe(s(4), [ready("a", -100, -50)], None)
    assert meter.until(s(4)).spent == {"boot": 0, "ready": s(4)}


def test_an_answer_before_the_next_poll_proves_a_container() -> None:
    """The list lags behind: belief follows the answer at once, and the next poll dates it."""
    containers, meter = watched()
    containers.boot_began(s(1))
    assert (containers.ready, containers.booting, containers.boot_age_s(s(3))) == (0, 1, 2.0)
    containers.answered(s(8))
    assert (containers.ready, containers.booting) == (1, 0)
    containers.observe(s(10), [ready("a", 2, 7)], None)
    assert meter.until(s(10)).spent == {"boot": s(5), "ready": s(3)}


def test_without_a_list_answers_and_silence_are_all_there_is() -> None:
    """A boot begins with a wake, ends with an answer, and the container with the scale-down window."""
    containers, meter = watched()
    containers.boot_began(s(1))
    containers.boot_began(s(2))  # already under way
    containers.answered(s(41))
    containers.answered(s(50))
    containers.scale_down(s(115), s(110), kept=0)
    assert (containers.ready, containers.booting) == (0, 0)
    assert meter.until(s(115)).spent == {"boot": s(40), "ready": s(69)}
    assert meter.missed == [("ready", s(-5))]


def test_a_list_knows_better_than_silence() -> None:
    """Where containers are listed, neither a window nor a bare 503 ends one."""
    containers, _ = watched()
    containers.observe(s(1), [ready("a", 0, 0)], None)
    containers.scale_down(s(100), s(90), kept=0)
    containers.gone(s(100))
    assert containers.ready == 1


def test_a_list_that_is_late_is_not_believed_about_containers_that_nobody_met() -> None:
    """A request started a boot where two were listed; the list shows them for a while, and the meter has every second
    that it shows in the end.
    """
    containers, meter = watched()
    old = [ready("a", 0, 0), ready("b", 0, 0)]
    containers.observe(s(1), old, None)
    containers.met_nobody(s(100))
    containers.met_nobody(s(100))  # with all others of its burst
    assert (containers.ready, containers.booting) == (0, 1)
    containers.observe(s(102), [*old, booting("c", 100)], None)
    assert (containers.ready, containers.booting, containers.serving_since_us) == (0, 1, None)
    containers.observe(s(104), [booting("c", 100)], None)
    containers.answered(s(141))
    containers.observe(s(142), [ready("c", 100, 140)], None)
    assert (containers.ready, containers.booting) == (1, 0)
    assert meter.until(s(142)).spent == {"boot": s(40), "ready": s(2 * 103 + 2)}


@pytest.mark.parametrize("answers", [True, False])
def test_an_answer_or_time_makes_a_list_believed_again(answers: bool) -> None:
    """Nobody was met because of something else: the containers were there all the time."""
    containers, meter = watched()
    containers.observe(s(1), [ready("a", 0, 0)], None)
    containers.met_nobody(s(100))
    if answers:
        containers.answered(s(101))
    until_s = 102 if answers else 100 + LATE_LIST_S
    containers.observe(s(until_s), [ready("a", 0, 0)], None)
    assert (containers.ready, containers.booting) == (1, 0)
    assert meter.until(s(until_s)).spent == {"boot": 0, "ready": s(until_s)}


def test_containers_that_are_always_there_stay() -> None:
    """A plain server, or a platform's minimum, survives every silence."""
    containers, _ = watched()
    containers.always(0, 2)
    containers.scale_down(s(100), s(60), kept=2)
    assert containers.ready == 2


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], list[int]]:
    """True lives (start, ready, end) in whole seconds, and the instants of polls."""
    lives = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, 80))
        booted = start + draw(st.integers(0, 30))
        lives.append((start, booted, booted + draw(st.integers(0, 60))))
    polls = draw(st.lists(st.integers(1, 150), unique=True, max_size=20))
    return lives, [*sorted(polls), 200]


@given(histories(), st.lists(st.tuples(st.integers(1, 150), st.sampled_from(["answered", "boot_began"])), max_size=6))
def test_the_meter_hears_of_every_second_whatever_it_was_told_between_polls(
    history: tuple[list[tuple[int, int, int]], list[int]], guesses: list[tuple[int, str]]
) -> None:
    """After each poll, told time = alive time of what was ever listed, where an end lies halfway between two polls and
    so within half of their distance from the truth. Boots are exact once the list has shown them over.
    """
    lives, polls = history
    containers, meter = watched()
    shown: set[int] = set()
    readied: set[int] = set()
    ends: dict[int, float] = {}
    polled = 0
    for at, kind in sorted([*guesses, *((at, "poll") for at in polls)]):
        if kind != "poll":
            (containers.answered if kind == "answered" else containers.boot_began)(s(at))
            continue
        alive = [number for number, (start, _, end) in enumerate(lives) if start <= at < end]
        for number in shown.difference(alive):
            ends[number] = (polled + at) / 2
            assert abs(ends[number] - lives[number][2]) <= (at - polled) / 2
        shown, polled = set(alive), at
        readied.update(number for number in alive if lives[number][1] <= at)
        containers.observe(s(at), [listed(number, *lives[number], at) for number in alive], None)
        spent = meter.until(s(at)).spent
        until = {**dict.fromkeys(alive, float(at)), **ends}
        booted = {number: lives[number][1] if number in readied else until[number] for number in until}
        assert spent["boot"] == sum(s(min(booted[number], end) - lives[number][0]) for number, end in until.items())
        assert spent["ready"] == sum(s(max(0, end - booted[number])) for number, end in until.items())


def listed(number: int, start: int, booted: int, end: int, at: int) -> ContainerInfo:
    return ready(str(number), start, booted) if booted <= at else booting(str(number), start)


def test_without_a_list_it_serves_since_the_first_answer() -> None:
    """Until it is gone: what comes after that is another container."""
    containers, _ = watched()
    assert containers.serving_since_us is None
    for at_s, happens, since_s in (
        (1, containers.boot_began, None),
        (5, containers.answered, 5),
        (9, containers.answered, 5),
        (10, containers.gone, None),
        (12, containers.answered, 12),
    ):
        happens(s(at_s))
        assert containers.serving_since_us == (None if since_s is None else s(since_s))


def test_a_list_says_since_when_the_oldest_of_them_serves() -> None:
    """When it ends, the next oldest is what counts, although the pool served all the time."""
    containers, _ = watched()
    containers.observe(s(10), [ready("a", 1, 2), ready("b", 3, 8), booting("c", 9)], None)
    assert containers.serving_since_us == s(2)
    containers.observe(s(20), [ready("b", 3, 8)], None)
    assert containers.serving_since_us == s(8)
    containers.observe(s(30), [booting("d", 29)], None)
    assert containers.serving_since_us is None


def test_the_first_list_is_told_even_if_it_is_empty() -> None:
    """Meters that outlive this process may remember containers that are gone; later lists are told as they change."""
    told: list[tuple[int, int, bool]] = []
    containers = Containers("p", 0, lambda _, __, *counts: told.append(counts), lambda *_: None)
    containers.observe(s(1), [], None)
    containers.observe(s(2), [], None)
    assert told == [(0, 0, True)]


def test_what_other_replicas_know_is_taken_over_and_not_told_again() -> None:
    """Where nobody lists: a boot that another replica began, and the container that another one met."""
    containers, meter = watched()
    containers.heard(s(10), 0, 1)
    assert (containers.booting, containers.boot_age_s(s(14))) == (1, 4.0)
    containers.heard(s(20), 1, 0)
    assert (containers.ready, containers.serving_since_us) == (1, s(20))
    assert (meter.ready, meter.booting) == (0, 0)
    containers.gone(s(30))
    assert meter.until(s(30)).ready == 0


def test_a_list_knows_better_than_other_replicas() -> None:
    """Each replica sees the list itself, and sees it sooner."""
    containers, _ = watched()
    containers.observe(s(1), [ready("a", 0, 1)], None)
    containers.heard(s(2), 0, 0)
    assert containers.ready == 1
