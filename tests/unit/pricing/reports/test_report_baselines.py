"""What recorded baselines would have needed: of the premium pools that each policy version had, and of no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.policy_history import PolicyVersion, PremiumPool, remember
from pricing.ledger.read import reading
from pricing.reports.baseline import Baseline
from pricing.reports.query import Query, Window
from pricing.reports.render import as_json
from pricing.reports.report import report
from pricing.reports.sections import closing_text
from pricing.reports.zones import UTC_ZONE
from support.example_ledger import BEGIN
from support.money import request
from support.shared_ledger import fill_file
from support.values import replace

SINCE, UNTIL = BEGIN - 34 * 3_600 * 10**6, BEGIN + 28 * 24 * 3_600 * 10**6
US = 10**6
USD = 10**9


def fixed(pool: str, nusd_per_h: int, *classes: str, gpu: str = "L40S") -> PremiumPool:
    return PremiumPool(pool, gpu, 1, nusd_per_h, classes)


def under(path: Path, *spent: tuple[str, str, int]) -> None:
    """A request for each of (policy version, class, nano-dollars of its baseline)."""
    asked = [
        replace(request(f"r{at}", at_us=BEGIN + at, baseline_nusd=nusd), policy_version=version, request_class=name)
        for at, (version, name, nusd) in enumerate(spent)
    ]
    fill_file(path, [], asked)


def in_force(path: Path, version: str, *premium: PremiumPool) -> None:
    remember(path, PolicyVersion(version, "modal-2026-10", BEGIN, "r1", BEGIN, "r1", (), premium))


def test_what_the_recorded_baseline_would_have_needed(ledger: Path) -> None:
    """$12 at $2.40 an hour are five hours of the class's premium pool."""
    for by in ("tenant", "policy"):
        found = report(ledger, [by], SINCE, UNTIL)
        assert [(each.pool, each.nusd, each.container_us) for each in found.needed] == [
            ("qwen3-vl-8b-bf16-l40s", 12 * USD, 5 * 3_600 * US)
        ]
        assert found.not_known == ()


@pytest.mark.parametrize("by", [(), ("tenant",), ("policy",), ("class",), ("policy", "class"), ("hour",)])
def test_each_policy_has_its_own_premium_pool_and_rate(tmp_path: Path, by: tuple[str, ...]) -> None:
    """One class moved to another pool, one pool became dearer: each version's requests by what it said itself."""
    path = tmp_path / "ledger.sqlite"
    under(path, ("p1", "chat", 6 * USD), ("p2", "chat", 6 * USD), ("p1", "code", 4 * USD), ("p2", "code", 4 * USD))
    late = request("late", "other", at_us=BEGIN + 9, baseline_nusd=USD)
    fill_file(path, [], [replace(late, policy_version="p2", request_class="chat")])
    in_force(path, "p1", fixed("big", 2 * USD, "chat", "code"))
    in_force(path, "p2", fixed("huge", 4 * USD, "chat", gpu="H100"), fixed("big", 1 * USD, "code"))
    found = report(path, by, SINCE, UNTIL)
    hours = {each.pool: (each.gpu, each.nusd // USD, each.container_us / US / 3_600) for each in found.needed}
    assert hours == {"big": ("L40S", 14, 6 / 2 + 4 / 2 + 4 / 1), "huge": ("H100", 7, 7 / 4)}
    assert found.not_known == ()
    alone = report(path, by, SINCE, UNTIL, "other")
    assert [(each.pool, each.nusd) for each in alone.needed] == [("huge", USD)]


def test_a_policy_whose_pools_nobody_noted_is_named_and_not_guessed(tmp_path: Path) -> None:
    """With how much of the baseline it is about, the largest first, at most three; what is known stands beside it."""
    path = tmp_path / "ledger.sqlite"
    under(path, *((f"p{at}", "chat", at * USD) for at in range(1, 6)), ("p6", "gone", USD), ("p6", "chat", 0))
    in_force(path, "p5", fixed("big", 5 * USD, "chat"))
    in_force(path, "p6", fixed("big", 5 * USD, "chat"))
    remember(path, PolicyVersion("p4", "modal-2026-10", BEGIN, "r1", BEGIN, "r1"))
    found = report(path, ["tenant"], SINCE, UNTIL)
    assert [(each.pool, each.nusd, each.container_us) for each in found.needed] == [("big", 5 * USD, 3_600 * US)]
    unknown = [("p4", 4 * USD), ("p3", 3 * USD), ("p2", 2 * USD), ("p1", USD), ("p6", USD)]
    assert [(each.policy, each.nusd) for each in found.not_known] == unknown
    assert sum(each.nusd for each in (*found.needed, *found.not_known)) == found.total.baseline_nusd
    [*_, against] = closing_text(found)
    assert against.replace("\N{NO-BREAK SPACE}", " ").endswith(
        "which would have needed 1.0 h of big (1 × L40S, $5.000000); what $11.000000 of it would have needed is not "
        "known (the ledger has no premium pools of policies p4, p3, p2 and 2 more: give --policy the files of one)."
    )
    said = {"policy": "p4", "baseline_nusd": 4 * USD, "baseline_usd": 4.0}
    assert as_json(found)["baseline_not_known"][0] == said


def test_files_that_are_given_speak_for_their_own_version_alone(tmp_path: Path) -> None:
    """Where the ledger lacks that version; where it has it, the ledger counts."""
    path = tmp_path / "ledger.sqlite"
    under(path, ("p1", "chat", 6 * USD), ("p2", "chat", 6 * USD), ("p3", "chat", 6 * USD))
    in_force(path, "p1", fixed("big", 6 * USD, "chat"))
    stated = {"p1": (fixed("another", USD, "chat"),), "p2": (fixed("small", 2 * USD, "chat"),)}
    found = report(path, ["tenant"], SINCE, UNTIL, baseline=Baseline("premium", stated=stated))
    assert {each.pool: each.container_us for each in found.needed} == {"big": 3_600 * US, "small": 3 * 3_600 * US}
    assert [each.policy for each in found.not_known] == ["p3"]
    [*_, against] = closing_text(found)
    assert "premium pools of policy p3: give --policy its files)" in against


def test_a_premium_pool_that_is_billed_by_the_token_has_no_hours(tmp_path: Path) -> None:
    """What it would have cost is said all the same."""
    path = tmp_path / "ledger.sqlite"
    under(path, ("p1", "chat", 6 * USD))
    in_force(path, "p1", fixed("api", 0, "chat", gpu="api"))
    found = report(path, ["tenant"], SINCE, UNTIL)
    assert [(each.pool, each.container_us) for each in found.needed] == [("api", None)]
    assert closing_text(found)[-1].endswith("which would have needed tokens of api ($6.000000).")


class Unread:
    """A ledger that nobody may ask."""

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        raise AssertionError(statement)

    def utc_text(self, column: str, span: str) -> str:
        raise AssertionError(column)

    def in_hours(self, since_us: int, until_us: int) -> str:
        raise AssertionError((since_us, until_us))


def test_sums_are_read_once_where_no_group_came_under_several_policies(ledger: Path) -> None:
    """As in most windows: a report of ten million rows is not to read its sums twice to say whose pools they mean."""
    window = Window(SINCE, UNTIL, UTC_ZONE)
    for by in (("tenant",), ()):
        with reading(ledger) as opened:
            asked = list(Query(opened, window).requests(by))
        assert Query(Unread(), window).baselines(asked) == {("p1", "chat"): 12 * USD}
