"""Containers of a simulated pool on a clock that the test moves: boot, fill, scale, stop, and the bill."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pools.simulator.bill import Phase
from pools.simulator.engine import EngineSettings, Sequence
from pools.simulator.faults import Fault, FaultKind
from pools.simulator.pool import Container, Ending, Job, Refusal, SimulatedPool
from pools.spec import PoolSpec
from support.simulated import RATE_NUSD_PER_H, SPEC
from support.values import replace

S = 1_000_000
WINDOW_US = 60 * S


def pool_of(spec: PoolSpec = SPEC, seed: int = 1, free: frozenset[Phase] = frozenset()) -> SimulatedPool:
    return SimulatedPool(spec, RATE_NUSD_PER_H, random.Random(seed), EngineSettings(), 0, free)


def awake(pool: SimulatedPool) -> int:
    """Wake a pool at 0; the instant at which it is ready."""
    pool.wake(0)
    (container,) = pool.containers(0)
    return container.ready_us


def send(pool: SimulatedPool, now_us: int, tokens: int = 10, fault: Fault | None = None) -> Job | Refusal:
    """One request; the job if a container took it."""
    container = pool.ready_container(now_us)
    if isinstance(container, Refusal):
        return container
    fatal = fault is not None and fault.kind is FaultKind.ENGINE_DEATH
    job = Job((Sequence(20, tokens, fatal=fatal),), fault)
    pool.place(job, container, now_us)
    return job


def accepted(outcome: Job | Refusal) -> Job:
    assert isinstance(outcome, Job)
    return outcome


def ids(containers: tuple[Container, ...]) -> list[str]:
    return [container.id for container in containers]


def test_a_sleeping_pool_refuses_at_once_and_boots_once() -> None:
    """Many requests to a cold pool start one container; it serves when it is ready, not a microsecond before."""
    pool = pool_of()
    assert [send(pool, 0) for _ in range(5)] == [Refusal.COLD] * 5
    (container,) = pool.containers(0)
    assert send(pool, container.ready_us - 1) is Refusal.COLD
    accepted(send(pool, container.ready_us))
    assert pool.boots == 1


def test_waking_is_single_flight() -> None:
    """A wake-up of a pool that boots or serves starts nothing."""
    pool = pool_of()
    assert [pool.wake(0), pool.wake(1)] == [True, False]
    assert len(pool.containers(1)) == 1


def test_an_idle_container_stops_after_its_window_and_is_billed_until_then() -> None:
    """Alive = boot + busy + idle to the microsecond: boot, one request, one window."""
    pool = pool_of()
    ready_us = awake(pool)
    job = accepted(send(pool, ready_us + 5 * S, tokens=100))
    pool.advance(ready_us + 40 * S)
    ended_us = job.sequences[0].ended_us or 0
    bill = pool.bill(ended_us + 10 * WINDOW_US)
    assert pool.containers(ended_us + 10 * WINDOW_US) == ()
    assert bill.boot_us == ready_us
    assert bill.busy_us == ended_us - (ready_us + 5 * S)
    assert bill.idle_us == 5 * S + WINDOW_US
    assert bill.alive_us == ended_us + WINDOW_US


def test_the_bill_is_alive_time_times_rate() -> None:
    """An hour at 1.1 dollars is 1.1 dollars."""
    pool = pool_of(replace(SPEC, min_containers=1))
    bill = pool.bill(3600 * S)
    assert bill.billed_nusd == RATE_NUSD_PER_H
    assert bill.as_json()["alive_us"] == 3600 * S


@pytest.mark.parametrize("free", [(), (Phase.BOOT,), (Phase.IDLE,), (Phase.IDLE, Phase.BOOT)])
def test_a_phase_that_is_free_is_not_billed(free: tuple[Phase, ...]) -> None:
    """A pool of one container that idles for the rest of an hour after its boot, by what its provider bills."""
    pool = pool_of(replace(SPEC, min_containers=1), free=frozenset(free))
    bill = pool.bill(3600 * S)
    assert bill.boot_us > 0
    assert bill.idle_us == 3600 * S - bill.boot_us
    unpaid_us = (bill.boot_us if Phase.BOOT in free else 0) + (bill.idle_us if Phase.IDLE in free else 0)
    assert bill.billed_us == bill.alive_us - unpaid_us
    assert bill.as_json()["free"] == sorted(phase.value for phase in free)


def test_min_containers_never_stop() -> None:
    """The minimum is there from the start and outlives any window; what scaled above it stops."""
    pool = pool_of(replace(SPEC, min_containers=1, target_concurrency=1, max_concurrency=4))
    (kept,) = pool.containers(0)
    for _ in range(2):
        accepted(send(pool, kept.ready_us))
    assert len(pool.containers(kept.ready_us)) == 2
    assert len(pool.containers(kept.ready_us + 10 * WINDOW_US)) == 1


def test_load_above_the_target_starts_more_up_to_the_maximum() -> None:
    """ceil(requests / target) containers, at most max_containers; above max_concurrency × ready, a refusal."""
    spec = replace(SPEC, target_concurrency=2, max_concurrency=3, max_containers=3)
    pool = pool_of(spec)
    now_us = awake(pool)
    hang = Fault(FaultKind.HANG)
    alive = []
    for _ in range(3):
        accepted(send(pool, now_us, fault=hang))
        alive.append(len(pool.containers(now_us)))
    assert alive == [1, 1, 2]
    assert send(pool, now_us) is Refusal.FULL
    later_us = now_us + 20 * S
    outcomes = [send(pool, later_us, fault=hang) for _ in range(6)]
    assert sum(isinstance(outcome, Job) for outcome in outcomes) == 3
    assert len(pool.containers(later_us)) == 3


def test_requests_fill_one_container_to_its_target_first() -> None:
    """The fullest below its target gets the next request, so that the other can go idle and stop."""
    pool = pool_of(replace(SPEC, target_concurrency=2, max_concurrency=9))
    now_us = awake(pool)
    hang = Fault(FaultKind.HANG)
    jobs = [accepted(send(pool, now_us, fault=hang)) for _ in range(3)]
    later_us = now_us + 20 * S
    jobs += [accepted(send(pool, later_us, fault=hang)) for _ in range(2)]
    assert sorted(container.in_flight for container in pool.containers(later_us)) == [2, 3]
    for job in jobs[:2]:
        pool.abort(job, later_us)
    emptier = min(pool.containers(later_us), key=lambda container: container.in_flight)
    accepted(send(pool, later_us, fault=hang))
    assert emptier.in_flight == 2


def test_a_dead_engine_refuses_connections_and_is_then_replaced() -> None:
    """All in flight end with the death; for 0.11 s connections are cut; then another container boots, and bills."""
    pool = pool_of()
    now_us = awake(pool)
    (victim,) = pool.containers(now_us)
    beside = accepted(send(pool, now_us, tokens=500))
    killer = accepted(send(pool, now_us, fault=Fault(FaultKind.ENGINE_DEATH)))
    pool.advance(now_us + 10 * S)
    died_us = killer.sequences[0].ended_us or 0
    assert (beside.ending, killer.ending) == (Ending.ENGINE_DIED, Ending.ENGINE_DIED)
    (replacement,) = pool.containers(now_us + 10 * S)
    assert replacement.id != victim.id
    assert replacement.started_us == died_us + 110_000


def test_between_death_and_removal_connections_are_cut() -> None:
    """The platform still lists the container, and nothing answers there."""
    pool = pool_of()
    now_us = awake(pool)
    accepted(send(pool, now_us, tokens=1, fault=Fault(FaultKind.ENGINE_DEATH)))
    pool.advance(now_us + S // 10)
    assert len(pool.containers(now_us + S // 10)) == 1
    assert send(pool, now_us + S // 10) is Refusal.GONE


def test_taking_a_pool_down_stops_its_bill() -> None:
    """What was alive is billed to that instant, and not beyond."""
    pool = pool_of()
    now_us = awake(pool)
    job = accepted(send(pool, now_us, tokens=500))
    pool.take_down(now_us + S)
    assert job.ending is Ending.CUT
    assert pool.bill(now_us + 100 * S).alive_us == now_us + S
    assert send(pool, now_us + 100 * S) is Refusal.GONE


def test_cold_starts_follow_the_closed_form() -> None:
    """Poisson arrivals, window w, one container: P(cold) = e^(−λw), idle paid per gap = (1 − e^(−λw))/λ."""
    rng = random.Random(5)
    gap_s, requests = 60.0, 4000
    pool = pool_of(replace(SPEC, max_containers=1, boot_s=1.0))
    now_us = awake(pool)
    cold, warm_idle_us = 0, 0
    for _ in range(requests):
        before = pool.bill(now_us).idle_us
        now_us += round(rng.expovariate(1 / gap_s) * S)  # from the last end, as the closed form counts
        outcome = send(pool, now_us, tokens=1)
        warm_idle_us += pool.bill(now_us).idle_us - before
        if outcome is Refusal.COLD:
            cold += 1
            (container,) = pool.containers(now_us)
            now_us = container.ready_us
            outcome = send(pool, now_us, tokens=1)
        job = accepted(outcome)
        while job.ending is None:
            now_us = pool.next_milestone_us() or now_us
            pool.advance(now_us)
    p_cold = math.exp(-60.0 / gap_s)
    deviation = 4 * math.sqrt(p_cold * (1 - p_cold) / requests)
    assert cold / requests == pytest.approx(p_cold, abs=deviation)
    assert warm_idle_us / requests / S == pytest.approx((1 - p_cold) * gap_s, rel=0.05)
    assert pool.boots == cold + 1


STEPS = st.lists(st.tuples(st.integers(0, 90 * S), st.integers(1, 80), st.booleans()), max_size=25)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 1), st.integers(1, 3))
def test_phases_partition_the_life_of_containers(
    steps: list[tuple[int, int, bool]], min_containers: int, target: int
) -> None:
    """Boot + busy + idle = Σ (stop − start), whatever comes, leaves and scales."""
    pool = pool_of(replace(SPEC, min_containers=min_containers, target_concurrency=target, max_concurrency=4))
    lives = set(ids(pool.containers(0)))
    now_us = 0
    alive_us = 0
    for gap_us, tokens, leaves in steps:
        until_us = now_us + gap_us
        while now_us < until_us:  # look once a second: no stop is missed by more than that
            step_us = min(until_us - now_us, S)
            now_us += step_us
            alive_us += step_us * len(pool.containers(now_us))
        outcome = send(pool, now_us, tokens=tokens)
        lives.update(ids(pool.containers(now_us)))
        if leaves and isinstance(outcome, Job):
            pool.abort(outcome, now_us)
    bill = pool.bill(now_us)
    assert bill.boot_us + bill.busy_us + bill.idle_us == bill.alive_us
    assert abs(bill.alive_us - alive_us) <= len(lives) * S
    assert pool.boots == len(lives)
