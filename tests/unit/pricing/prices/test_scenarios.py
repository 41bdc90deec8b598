"""Recomputing stated figures: ranges, roundings, verdicts, and files that are wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import FileProblem, UnknownPrice
from pricing.money import to_usd
from pricing.prices.book import shipped_books
from pricing.prices.scenario_schema import ClaimShape, CostShape, LoadShape
from pricing.prices.scenarios import Figure, Unit, Verdict, compute, cost_range_nusd, judge, load_scenario

BOOKS = shipped_books()
LIST = BOOKS["modal-2026-10"]
HOUR = {"loads": [{"gpu": "A10", "seconds": 3600}]}


def claim(compute_how: dict[str, Any], **more: Any) -> ClaimShape:
    return ClaimShape.model_validate({"id": "x", "table": "t", "claim": "c", "compute": compute_how, **more})


def figure(compute_how: dict[str, Any]) -> Figure:
    return compute(claim(compute_how).compute, LIST)


def test_each_way_to_compute_has_its_unit() -> None:
    """One A10 hour at 1.10 against one T4 hour at 0.59, in every unit."""
    pair = {"before": HOUR, "after": {"loads": [{"gpu": "T4", "seconds": 3600}]}}
    found = {
        name: (figure({name: how}).unit, f"{figure({name: how}).low:.3f}")
        for name, how in {
            "cost": HOUR,
            "saved": pair,
            "saving": pair,
            "ratio": pair,
            "hours_bought": {"usd": 11, "gpu": "A10"},
            "seconds_bought": {"usd": 0.11, "gpu": "A10"},
        }.items()
    }
    assert found == {
        "cost": (Unit.USD, "1.100"),
        "saved": (Unit.USD, "0.510"),
        "saving": (Unit.PERCENT, "46.364"),
        "ratio": (Unit.RATIO, "1.864"),
        "hours_bought": (Unit.HOURS, "10.000"),
        "seconds_bought": (Unit.SECONDS, "360.000"),
    }


def test_idle_time_cpu_and_memory_are_billed_with_each_run() -> None:
    """Ten runs of 60 s with 120 s idle on A10, 4 cores and 32 GiB: half an hour of 1.5452 dollars."""
    load = {"gpu": "A10", "requests": 10, "seconds": 60, "idle_s": 120, "cpu_cores": 4, "memory_gib": 32}
    assert figure({"cost": {"loads": [load]}}).low == Decimal("0.7726")


def test_tokens_at_a_speed_are_a_time() -> None:
    """11,619 tokens at 337.46 tokens/s are 34.4 s; a range of speeds is a range of times, the faster the shorter."""
    one = LoadShape.model_validate({"gpu": "A10", "tokens": 11619, "tokens_per_second": 337.46})
    assert f"{one.seconds_each()[0]:.1f}" == "34.4"
    two = LoadShape.model_validate({"gpu": "A10", "tokens": 1100, "tokens_per_second": [100, 110]})
    assert two.seconds_each() == (Decimal(10), Decimal(11))


@pytest.mark.parametrize(
    ("stated", "decimals", "low", "high", "verdict"),
    [
        (3.06, 2, "3.058", "3.058", Verdict.HOLDS),
        (3.06, 2, "3.0549", "3.0549", Verdict.OFF),
        ([2, 3], 0, "1.83", "1.83", Verdict.HOLDS),
        ([1.7, 2.5], 2, "1.68", "1.68", Verdict.OFF),
        (0.001, 3, "0.0008", "0.0025", Verdict.HOLDS),
        (0.010, 3, "0.0027", "0.0081", Verdict.OFF),
        ([0.5, 2], 2, "0.5", "1.667", Verdict.HOLDS),
        ([5, 15], 0, "14", "16", Verdict.OFF),
        (None, 2, "1", "1", Verdict.NOT_STATED),
    ],
)
def test_a_figure_holds_when_it_rounds_to_what_is_stated(
    stated: object, decimals: int, low: str, high: str, verdict: Verdict
) -> None:
    """Equal at the source's decimals, or one range within the other; a range that only overlaps is off."""
    says = None if stated is None else "so"
    shape = claim({"cost": HOUR}, says=says, stated=stated, decimals=decimals)
    assert judge(shape, Figure(Unit.USD, Decimal(low), Decimal(high))) is verdict


def test_rounding_before_multiplying_is_what_some_sources_do() -> None:
    """100 × $0.0467 rounded to the cent first is $5.00, exactly $4.67."""
    load = LoadShape.model_validate({"gpu": "L40S", "seconds": 120})
    book = BOOKS["doc-inference-cost-optimization"]
    exact = CostShape(loads=[load], times=100)
    rounded = CostShape(loads=[load], times=100, round_decimals=2)
    assert (f"{to_usd(cost_range_nusd(exact, book)[0]):.2f}", to_usd(cost_range_nusd(rounded, book)[0])) == ("4.67", 5)


@given(st.integers(1, 10_000), st.integers(1, 86_400), st.integers(1, 60))
def test_the_cost_of_loads_is_the_sum_of_their_costs(requests: int, seconds: int, times: int) -> None:
    """A workload's cost is additive in its loads and in how often it is repeated."""
    loads = [
        LoadShape.model_validate({"gpu": gpu, "requests": requests, "seconds": seconds})
        for gpu in ("T4", "A10", "H100")
    ]
    together = cost_range_nusd(CostShape(loads=loads, times=times), LIST)
    apart = [cost_range_nusd(CostShape(loads=[load]), LIST) for load in loads]
    assert together == (sum(low for low, _ in apart) * times, sum(high for _, high in apart) * times)


FILE = """\
title: Ours
as_of: null
book: modal-2026-10
claims:
  - id: one
    table: t
    claim: c
    compute: {compute}
"""


@pytest.mark.parametrize(
    ("compute_text", "words"),
    [
        ("{}", "needs exactly one of cost, saved"),
        ("{cost: null}", "needs exactly one of cost, saved"),
        ("{cost: {loads: [{gpu: T4, seconds: [5, 2]}]}}", "runs backwards"),
        ("{cost: {loads: [{gpu: T4}]}}", "needs either seconds, or tokens and tokens_per_second"),
        ("{cost: {loads: [{gpu: T4, tokens: 5}]}}", "needs either seconds, or tokens and tokens_per_second"),
        ("{cost: {loads: [{gpu: L40, seconds: 5}]}}", "did you mean 'L40S'"),
        ("{cost: {loads: [{gpu: A6000, seconds: 5}]}}", "no price for GPU 'A6000' in book 'modal-2026-10'"),
        (
            "{ratio: {before: {loads: [{gpu: T4, seconds: 1}]}, after: {loads: [{gpu: T4, seconds: 0}]}}}",
            "cannot be compared; give it more seconds",
        ),
    ],
)
def test_a_claim_that_cannot_be_computed_is_refused_with_its_line(
    tmp_path: Path, compute_text: str, words: str
) -> None:
    """Shape errors, missing prices and divisions by nothing name the file and a line of the claim."""
    path = tmp_path / "ours.yaml"
    path.write_text(FILE.replace("{compute}", compute_text), encoding="utf-8")
    with pytest.raises(FileProblem) as caught:
        load_scenario(path, BOOKS)
    assert words in str(caught.value)
    assert str(caught.value).startswith((f"{path}:5:", f"{path}:8:"))


def test_an_unknown_list_book_is_an_error_and_an_unpriced_gpu_there_is_a_gap(tmp_path: Path) -> None:
    """The second column needs a book that exists; a GPU which that book lacks leaves the column empty."""
    path = tmp_path / "ours.yaml"
    path.write_text(FILE.replace("{compute}", "{hours_bought: {usd: 5, gpu: A10}}"), encoding="utf-8")
    with pytest.raises(UnknownPrice, match="did you mean 'modal-2026-10'"):
        load_scenario(path, BOOKS, "modal-2026-1")
    assert load_scenario(path, BOOKS, "doc-qwen-vllm-models").findings[0].today is None
    assert load_scenario(path, BOOKS, "doc-qwen3-4b").findings[0].today == Figure(
        Unit.HOURS, Decimal("12.5"), Decimal("12.5")
    )


def test_one_claim_id_twice_is_refused(tmp_path: Path) -> None:
    """Ids name claims in reports, so a second use is an error at its own line."""
    text = FILE.replace("{compute}", "{hours_bought: {usd: 5, gpu: A10}}")
    path = tmp_path / "ours.yaml"
    path.write_text(text + text[text.index("  - id") :], encoding="utf-8")
    with pytest.raises(FileProblem, match=r"ours\.yaml:9: claim id 'one' is used twice"):
        load_scenario(path, BOOKS)
