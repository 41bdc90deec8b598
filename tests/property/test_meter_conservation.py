"""Invariant 3: what a pool's requests pay is what its busy time cost, whatever the interleaving."""

from collections.abc import Callable
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.meter.pool import PoolMeter
from pricing.money import US_PER_HOUR
from pricing.prices.billed import ALL_BILLED, Billed

billings = st.builds(Billed, st.booleans(), st.booleans())
weights = st.one_of(st.just(1), st.integers(1, 200_000))
step = st.tuples(
    st.integers(-2_000_000, 40_000_000),  # microseconds since the step before
    st.one_of(
        st.tuples(st.just("enter"), weights),
        st.tuples(st.just("leave"), st.integers(0, 50)),
        st.tuples(st.just("containers"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("rate"), st.integers(0, 60_000_000_000), billings),
    ),
)


class Run:
    """Plays steps against a meter, and keeps the exact bill and each request's time beside it."""

    def __init__(self, rate: int, target: int, billed: Billed = ALL_BILLED) -> None:
        self.meter = PoolMeter("p", rate, target, 0, billed)
        self.rate = rate
        self.target = target
        self.billed = billed
        self.now_us = self.latest_us = 0
        self.ready = self.booting = self.count = 0
        self.bill = Fraction(0)  # nano-dollars of all containers that were told, while they are billed
        self.alive_us = 0
        self.one_container: dict[str, Fraction] = {}  # what one container cost while the request ran
        self.charges: list[int] = []

    def advance(self, dt_us: int) -> None:
        self.now_us += dt_us
        passed_us = max(0, self.now_us - self.latest_us)
        cost = Fraction(self.rate * passed_us, US_PER_HOUR)
        self.latest_us = max(self.latest_us, self.now_us)
        self.alive_us += (self.ready + self.booting) * passed_us
        self.bill += self.containers_billed() * cost
        self.meter.totals(self.now_us)
        for name in self.one_container:
            self.one_container[name] += cost

    def containers_billed(self) -> int:
        """Those that boot, serve and idle, as far as the provider bills it."""
        running = len(self.one_container)
        serving = min(self.ready, running, -(-running // self.target))
        return (self.booting if self.billed.boot else 0) + (self.ready if self.billed.idle else serving)

    def play(self, action: tuple[object, ...], check_charge: Callable[[int, Fraction], None]) -> None:
        match action:
            case ("enter", int(weight)):
                self.count += 1
                self.meter.enter(self.now_us, f"r{self.count}", weight)
                self.one_container[f"r{self.count}"] = Fraction(0)
            case ("leave", int(index)) if self.one_container:
                name = list(self.one_container)[index % len(self.one_container)]
                charge = self.meter.leave(self.now_us, name)
                check_charge(charge, self.one_container.pop(name))
                self.charges.append(charge)
            case ("containers", int(ready), int(booting)):
                self.ready, self.booting = ready, booting
                self.meter.set_containers(self.now_us, ready, booting)
            case ("rate", int(rate), Billed() as billed):
                self.rate, self.billed = rate, billed
                self.meter.set_rate(self.now_us, rate, billed)


def nobody_pays_more_than_one_container(charge: int, one_container: Fraction) -> None:
    assert 0 <= charge <= one_container + 2


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60_000_000_000), st.integers(1, 8), billings, st.lists(step, max_size=40))
def test_charges_are_the_busy_cost_and_all_phases_are_the_bill(
    rate: int, target: int, billed: Billed, steps: list
) -> None:
    """Σ charges = busy cost, all phases = billed time × rate, and no charge is above one container's rate.

    Time that is not billed is counted all the same.
    """
    run = Run(rate, target, billed)
    for dt_us, action in steps:
        run.advance(dt_us)
        run.play(action, nobody_pays_more_than_one_container)
    for index in range(len(run.one_container)):
        run.play(("leave", index), nobody_pays_more_than_one_container)
    totals = run.meter.totals(run.now_us)
    assert sum(run.charges) == totals.charged_nusd == totals.busy_nusd
    phases = totals.busy_nusd + totals.boot_nusd + totals.idle_nusd + totals.adjustment_nusd
    assert abs(phases - run.bill) <= 2
    assert totals.busy_us + totals.boot_us + totals.idle_us + totals.adjustment_us == run.alive_us


@settings(max_examples=40, deadline=None)
@given(st.lists(step, min_size=5, max_size=40))
def test_what_has_accrued_is_what_is_charged(steps: list) -> None:
    """At any instant the accrued costs of those who run and the charges of those who left are the busy cost."""
    run = Run(3_600_000_000, 2)
    for dt_us, action in steps:
        run.advance(dt_us)
        run.play(action, nobody_pays_more_than_one_container)
        accrued = sum(run.meter.accrued(run.now_us, name) for name in run.one_container)
        totals = run.meter.totals(run.now_us)
        assert abs(accrued + totals.charged_nusd - totals.busy_nusd) <= len(run.one_container) + 1
