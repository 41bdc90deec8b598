"""Whether pools that fail most of their requests for lack of memory still do behind the router, and what that costs.

    python benchmarks/oom_admission.py [--seconds 120] [--seeds 2] [--fit]

Each pool of LLM-Pilot that ran out of memory is simulated (batch_engine.py, llm_pilot.py) under the measured number of
users: alone, as measured; behind the router as the only pool, so that requests wait; and with a larger pool after it
on the ladder, so that they may spill. Everything runs on a virtual clock. `--fit` prints how the two fitted figures of
each pool were found.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Final

from batch_engine import BatchEngine, EngineGone, OutOfMemory
from llm_pilot import FITTED, LARGER, MEASURED_S, Case, Fitted, Pool, cases, engine_profile, requests
from oom_router import Router, policy_of
from results import Result, Target, number
from virtual_time import VirtualClock, VirtualLoop, run

BELOW: Final = 0.01
WITHIN: Final = 0.15  # how far a simulated share of failures may be from the measured one
CROWDED: Final = 0.4  # the cases that the claim is about failed more than this alone
OVERSTATED: Final = 3
NOT_COMPUTED: Final = frozenset({Pool("starcoder", "A100-40GB", 1), Pool("llama-7b", "H100", 1)})
"""Pools that hold less than the memory fit computes: something else than the cache fills their memory."""
MEASURED_SHARE: Final = 0.9  # of what such a pool holds: what an operator writes down after a load test
HELD_SHARES: Final = (0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)
ADMITTED_TIMES: Final = (1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5)
REFUSED_S: Final = 0.5  # a client that was refused waits before it asks again, as SDKs do
BYTES_PER_TOKEN: Final = (3.2, 4.8)  # drawn for each prompt, so that the router's estimate of its tokens errs


@dataclass(slots=True)
class Outcome:
    """Requests of one run. `waits_s` are from a request's arrival to its first dispatch."""

    answered: int = 0
    failed: int = 0
    spilled: int = 0
    out_of_memory: int = 0  # batches
    waits_s: list[float] = field(default_factory=list)

    @property
    def failed_share(self) -> float:
        return self.failed / max(1, self.answered + self.failed)

    def add(self, other: Outcome) -> None:
        self.answered += other.answered
        self.failed += other.failed
        self.spilled += other.spilled
        self.out_of_memory += other.out_of_memory
        self.waits_s += other.waits_s


def alone(pool: Pool, users: int, seconds: float, seed: int, fitted: Fitted | None = None) -> Outcome:
    """Users of one engine without a router."""

    async def main(loop: VirtualLoop) -> Outcome:
        engine = BatchEngine(engine_profile(pool, fitted))
        outcome = Outcome()

        async def user(number: int) -> None:
            wanted = requests(seed * 1_000 + number)
            while loop.time() < seconds:
                try:
                    await engine.generate(*next(wanted))
                    outcome.answered += 1
                except (OutOfMemory, EngineGone):
                    outcome.failed += 1

        await _all(users, user, [engine])
        outcome.out_of_memory = engine.out_of_memory
        return outcome

    return _outcome(run(main))


def behind(pools: list[Pool], users: int, seconds: float, seed: int, rows: Mapping[str, Any] | None = None) -> Outcome:
    """The same users of the router, before the first pool and what follows it on the ladder."""

    async def main(loop: VirtualLoop) -> Outcome:
        engines = {pool.name: BatchEngine(engine_profile(pool)) for pool in pools}
        router = Router(policy_of(pools, rows or {}), engines, VirtualClock(loop))
        outcome = Outcome()

        async def user(number: int) -> None:
            wanted = requests(seed * 1_000 + number)
            rng = random.Random(f"{seed} {number}")
            sent = 0
            while loop.time() < seconds:
                prompt, output = next(wanted)
                text = "x" * max(1, round(prompt * rng.uniform(*BYTES_PER_TOKEN)))
                request_id = f"u{number}.{sent}"
                sent += 1
                began_s = loop.time()
                served_by = await router.request(request_id, text, prompt, output)
                _count(outcome, served_by, pools[0])
                if served_by is None:
                    await asyncio.sleep(REFUSED_S)
                dispatched = [backend.dispatched.pop(request_id, began_s) for backend in router.backends.values()]
                outcome.waits_s.append(max(dispatched) - began_s)

        await _all(users, user, list(engines.values()))
        outcome.out_of_memory = sum(engine.out_of_memory for engine in engines.values())
        return outcome

    return _outcome(run(main))


def _count(outcome: Outcome, served_by: str | None, first: Pool) -> None:
    outcome.answered += served_by is not None
    outcome.failed += served_by is None
    outcome.spilled += served_by not in (None, first.name)


async def _all(users: int, user: Any, engines: list[BatchEngine]) -> None:
    """Run the users to their ends, beside the engines."""
    working = [asyncio.create_task(engine.run()) for engine in engines]
    await asyncio.gather(*(user(number) for number in range(users)))
    for task in working:
        task.cancel()


def _outcome(value: object) -> Outcome:
    assert isinstance(value, Outcome)
    return value


def repeated(one: Callable[[int], Outcome], seeds: int) -> Outcome:
    """The sum of several runs."""
    total = Outcome()
    for seed in range(1, seeds + 1):
        total.add(one(seed))
    return total


@dataclass(frozen=True, slots=True)
class Compared:
    """One measured case and its simulations."""

    case: Case
    alone: Outcome
    queueing: Outcome
    spilling: Outcome
    misjudged: Outcome  # spilling, and the catalogue believes that the pool holds `OVERSTATED` times what it does

    @property
    def error(self) -> float:
        return abs(self.alone.failed_share - self.case.failed_share)


def compare(case: Case, seconds: float, seeds: int) -> Compared:
    pool, users = case.pool, case.users
    ladder = [pool, LARGER[pool.model]]
    wrong = {"kv_tokens": OVERSTATED * FITTED[pool].holds_tokens}
    return Compared(
        case,
        repeated(lambda seed: alone(pool, users, seconds, seed), seeds),
        repeated(lambda seed: behind([pool], users, seconds, seed, known(pool)), seeds),
        repeated(lambda seed: behind(ladder, users, seconds, seed, known(pool)), seeds),
        repeated(lambda seed: behind(ladder, users, seconds, seed, wrong), seeds),
    )


def known(pool: Pool) -> dict[str, int]:
    """What an operator has to write into the pool's row: nothing where the memory fit's arithmetic will do."""
    return {"kv_tokens": round(MEASURED_SHARE * FITTED[pool].holds_tokens)} if pool in NOT_COMPUTED else {}


def failing() -> list[Case]:
    """The measured cases that failed for lack of memory."""
    return [case for case in cases() if case.failed_share > BELOW]


def calibration_error(seconds: float, seeds: int) -> tuple[float, float]:
    """Mean and largest difference between simulated and measured shares of failures, over all cases of these pools."""
    errors = []
    for case in cases():
        if case.pool in FITTED:
            simulated = repeated(partial(alone, case.pool, case.users, seconds), seeds)
            errors.append(abs(simulated.failed_share - case.failed_share))
    return statistics.fmean(errors), max(errors)


def fit(pool: Pool) -> None:
    """Print the best pairs of what the GPUs hold and what the scheduler admits, near the pair in force: those with the
    smallest errors over all cases, the largest of them counted twice.
    """
    measured = [case for case in cases() if case.pool == pool]
    found = []
    for share, admits in product(HELD_SHARES, ADMITTED_TIMES):
        holds = 100 * round(FITTED[pool].holds_tokens * share / 100)
        fitted = Fitted(holds, 100 * round(holds * admits / 100), FITTED[pool].dies)
        errors = [abs(_failed_share(case, fitted) - case.failed_share) for case in measured]
        found.append((sum(errors) + max(errors), max(errors), fitted))
    for _, error, fitted in sorted(found, key=lambda each: each[0])[:3]:
        print(
            f"{pool.name}: holds {fitted.holds_tokens:,}, admits {fitted.admits_tokens:,}: off by {error:.1%} at most"
        )


def _failed_share(case: Case, fitted: Fitted) -> float:
    return repeated(lambda seed: alone(case.pool, case.users, MEASURED_S, seed, fitted), 2).failed_share


def result(seconds: float, seeds: int) -> Result:
    compared = [compare(case, seconds, seeds) for case in failing()]
    mean, largest = calibration_error(seconds, seeds)
    crowded = [each for each in compared if each.case.failed_share > CROWDED]
    spilling = max(each.spilling.failed_share for each in compared)
    misjudged = max(each.misjudged.failed_share for each in compared)
    queueing = max(each.queueing.failed_share for each in crowded)
    about = (
        f"LLM-Pilot's pools that ran out of memory, simulated for {seconds:g} s, {seeds} runs each, every user sending "
        "its next request when the last has ended. Behind the router: alone on the ladder, so that requests queue; "
        "with a larger pool after it; and the same with a catalogue that believes three times the memory there is. "
        "Waits are from arrival to dispatch, median and 95th percentile. Simulated shares of failures are off the "
        f"measured ones by {mean:.1%} on average and by {largest:.1%} at most."
    )
    at_most, many = f"at most {WITHIN:.0%}", f"{CROWDED:.0%}"
    targets = [
        Target("simulated and measured failures differ by", at_most, f"{largest:.1%}", largest <= WITHIN),
        Target(f"failures where over {many} failed alone, queueing", "below 1%", f"{queueing:.2%}", queueing < BELOW),
        Target("failures in all cases, spilling", "below 1%", f"{spilling:.2%}", spilling < BELOW),
        Target("the same, memory believed threefold", "below 1%", f"{misjudged:.2%}", misjudged < BELOW),
    ]
    return Result("Admission by memory", about, COLUMNS, [_line(each, seconds * seeds) for each in compared], targets)


COLUMNS: Final = (
    "pool",
    "users",
    "failed, measured",
    "failed, simulated",
    "answered/s",
    "queueing: failed",
    "answered/s",
    "wait s",
    "spilling: failed",
    "answered/s",
    "spilled",
    "wait s",
    "memory believed threefold: failed",
)


def _line(each: Compared, seconds: float) -> tuple[str, ...]:
    spilled = each.spilling.spilled / max(1, each.spilling.answered)
    return (
        each.case.pool.name,
        str(each.case.users),
        f"{each.case.failed_share:.1%}",
        f"{each.alone.failed_share:.1%}",
        number(each.alone.answered / seconds),
        f"{each.queueing.failed_share:.2%}",
        number(each.queueing.answered / seconds),
        _waits(each.queueing),
        f"{each.spilling.failed_share:.2%}",
        number(each.spilling.answered / seconds),
        f"{spilled:.0%}",
        _waits(each.spilling),
        f"{each.misjudged.failed_share:.2%}",
    )


def _waits(outcome: Outcome) -> str:
    ordered = sorted(outcome.waits_s)
    return f"{ordered[len(ordered) // 2]:.1f} / {ordered[int(0.95 * len(ordered))]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=MEASURED_S)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    if arguments.fit:
        for pool in FITTED:
            fit(pool)
        return
    print(result(arguments.seconds, arguments.seeds).as_json())


if __name__ == "__main__":
    main()
