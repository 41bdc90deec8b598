"""The baseline: the same requests, every class on its premium pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.fit.timing import timing_model
from pricing.money import cost_nusd
from router.demo.baseline import baseline_nusd
from router.demo.load import Outcome
from router.demo.plan import PlannedRequest
from router.demo.tenants import new_keys, write_policy
from router.demo.verdict import Judged, Verdict


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    files: Path = tmp_path_factory.mktemp("demo") / "policy"
    write_policy(files, new_keys(), trial_nusd=1_000_000)
    return load_policy([files], environ={}, now_us=1_790_000_000_000_000, assume_deployed=True)


def outcome(verdict: Verdict, request_class: str = "vision", max_tokens: int | None = None) -> Outcome:
    planned = PlannedRequest(1, 5.0, "acme", request_class, "economy", 1000, 300, True, max_tokens)
    return Outcome(planned, Judged(verdict), 200, "p", "T4", "economy", 1, 0.1, 1.0)


def test_one_request_costs_its_boot_its_service_and_the_idle_window(policy: Policy) -> None:
    """On the class's premium pool, at that pool's rate."""
    name = policy.classes["vision"].premium_pool
    pool = policy.pools[name]
    service_s = timing_model(pool).estimate(1000, 300, 0).total_s
    alive_us = round((policy.boots_s[name] + service_s + pool.scaledown_window_s) * 1e6)
    assert baseline_nusd(policy, [outcome(Verdict.SERVED)]) == {
        name: cost_nusd(policy.rates[name].nusd_per_h, alive_us)
    }


def test_a_bound_that_cut_the_answer_cuts_it_in_the_baseline_too(policy: Policy) -> None:
    """Fewer tokens are less service time."""
    [whole] = baseline_nusd(policy, [outcome(Verdict.SERVED)]).values()
    [cut] = baseline_nusd(policy, [outcome(Verdict.SERVED, max_tokens=10)]).values()
    assert cut < whole


def test_only_requests_that_were_answered_count(policy: Policy) -> None:
    """What was refused or lost cost nothing, and is in no baseline; each class stands under its premium pool."""
    assert baseline_nusd(policy, [outcome(Verdict.REFUSED), outcome(Verdict.LOST)]) == {}
    both = baseline_nusd(policy, [outcome(Verdict.BROKEN), outcome(Verdict.SERVED, "code")])
    assert set(both) == {policy.classes["vision"].premium_pool, policy.classes["code"].premium_pool}
