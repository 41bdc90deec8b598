"""What the demo prints at its end: on a narrow terminal, of a saving and of a loss, and of a run without an answer."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from policies.compile.load import load_policy
from policies.policy import Policy
from pricing.budgets.caps import Scope, ScopeKind
from pricing.budgets.store import CapStatus
from pricing.ledger.rows import House
from pricing.verify.sqlite import Verification
from router.demo.books import LedgerSums
from router.demo.control import PoolsBill
from router.demo.load import Outcome
from router.demo.mishaps import MISHAPS, Struck
from router.demo.plan import PlannedRequest
from router.demo.show import MEANING, saving_text, show
from router.demo.summary import Summary
from router.demo.tenants import new_keys, write_policy
from router.demo.verdict import Judged, Verdict
from support.values import replace

CENT = 10**7
HOUR_US = 3_600 * 10**6


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    files = tmp_path_factory.mktemp("demo") / "policy"
    write_policy(files, new_keys(), trial_nusd=1_000_000)
    return load_policy([files], environ={}, now_us=1_790_000_000_000_000, assume_deployed=True)


def outcome(pool: str, verdict: Verdict = Verdict.SERVED, why: str = "") -> Outcome:
    planned = PlannedRequest(1, 0.0, "support-desk", "chat", "economy", 10, 10, True, None)
    return Outcome(planned, Judged(verdict, why), 200, pool, "", "economy" if pool else "", 1, 12.84, 20.0)


def summed(policy: Policy) -> Summary:
    """A run over every pool of the demo, 4 cents each, with all that can be told of one; the baseline is 60 cents."""
    phases = {"boot": CENT, "busy": 2 * CENT, "idle": CENT + 1_100_000, "adjustment": -1_100_000}
    pools = dict.fromkeys(policy.pools, phases)
    accounts = {**dict.fromkeys(("trial", *House), CENT), "support-desk": (4 * len(pools) - 6) * CENT}
    outcomes = [outcome(pool) for pool in pools] + [outcome("", Verdict.REFUSED, "budget_exceeded")]
    chat, vision = policy.classes["chat"].premium_pool, policy.classes["vision"].premium_pool
    spent = {"cap": "key:newsletter-writer/key", "scope": Scope(ScopeKind.KEY, "newsletter-writer"), "window": "24h"}
    flags = {"warned": True, "lowering": False, "resets_us": None, "held_nusd": 0, "left_nusd": 0}
    return Summary(
        outcomes=[*outcomes, outcome("coder-7b-a10", Verdict.BROKEN, "budget_exceeded")],
        sums=LedgerSums(accounts, pools, {"out_of_memory": 1}, {"tokens": 1, "text": 2}),
        bill=dict.fromkeys(pools, PoolsBill(HOUR_US, 2 * HOUR_US, HOUR_US, 4 * HOUR_US, CENT, 4 * CENT)),
        baseline={chat: 45 * CENT, vision: 15 * CENT},
        caps=[CapStatus(amount_nusd=2 * CENT, spent_nusd=2 * CENT, **spent, **flags)],  # type: ignore[arg-type]
        verification=Verification(rows=3, requests=3, open_holds=0, total_nusd=1, problems=()),
        struck=[Struck(mishap, "coder-30b-fp8-l40s", 115.2) for mishap in MISHAPS],
        seed=0,
        speedup=10.0,
        simulated_s=365.0,
        real_s=39.0,
    )


def printed(policy: Policy, summary: Summary, width: int) -> str:
    screen = Console(file=io.StringIO(), width=width)
    show(screen, policy, summary)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_it_fits_eighty_columns(policy: Policy) -> None:
    """Only the GPU is left out, which the pools' names have; at 100 columns it is there."""
    narrow, wide = printed(policy, summed(policy), 80), printed(policy, summed(policy), 100)
    assert max(map(len, narrow.splitlines())) <= 80
    assert re.findall("Left out at this width: (.*)", narrow) == ["GPU. A wider terminal shows all."]
    assert "Left out" not in wide
    assert narrow.endswith("It adds up: no request lost, no cap exceeded, ledger and bill 0.00% apart.\n")
    assert re.search(r"coder-30b-fp8-a100 +A100-80GB +economy +1 +1 +· +· +· +12\.8 s\n", wide)


def test_every_kind_of_trouble_has_its_line(policy: Policy) -> None:
    """What was ordered, what was tried after it, how streams went on, what clients were told."""
    text = printed(policy, summed(policy), 80)
    for line in (
        r"ordered: crash mid-stream, after 115 s +coder-30b-fp8-l40s +1",
        r"another pool was tried after out_of_memory +1",
        r"broken stream went on at another pool, exactly +1",
        r"broken stream went on at another pool, from its text +2",
        r"broken, ended with an error event: budget_exceeded +1",
        r"refused, with an OpenAI error: budget_exceeded +1",
    ):
        assert re.search(f"\n{line}\n", text), line
    assert [account for account, words in MEANING.items() if not re.search(f"{account} +{words} ", text)] == []


def test_the_saving_is_of_the_whole_bill(policy: Policy) -> None:
    """Against what, with which pools for which classes, and that a report's is another one."""
    assert len(policy.pools) == 9
    first, second, third = saving_text(policy, summed(policy))
    assert first == "Saved 40% of the whole bill: $0.36 instead of $0.60, boots and idle time in both."
    assert "chat on next-80b-fp8-h200 $0.45, vision on vl-8b-bf16-l40s $0.15." in second.replace("\xa0", " ")
    assert third.endswith("states another saving, on busy time: boots and idle time in neither side.")


def test_a_loss_is_called_one(policy: Policy) -> None:
    """More than the baseline: lost, by how much of it."""
    summary = replace(summed(policy), baseline={policy.classes["chat"].premium_pool: 18 * CENT})
    assert next(saving_text(policy, summary)).startswith("Lost 100% of the whole bill: $0.36 instead of $0.18")


def test_without_an_answer_nothing_was_saved(policy: Policy) -> None:
    """And nothing is divided by."""
    [sentence] = saving_text(policy, replace(summed(policy), baseline={}))
    assert sentence == "No request was answered, so that nothing can have been saved on the whole bill."
