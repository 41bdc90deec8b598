"""The cost tables of the five source documents, recomputed by the product from each document's own prices.

`FIGURES` has every figure by document and claim: what the document says, what its own prices give, whether it holds,
and what Modal's list of October 2026 gives. The page docs/source-documents.md must show the same.
"""

from __future__ import annotations

import pytest

from pools.catalog.load import load_catalog
from pools.fit.memory import fit
from pricing.prices.book import shipped_books
from pricing.prices.scenario_schema import ClaimShape
from pricing.prices.scenarios import Finding, Scenario, Verdict, document_files, load_scenario
from router.cli.prices_view import figure, shown_decimals
from support.repository import ROOT

BOOKS = shipped_books()
LIST = "modal-2026-10"
SCENARIOS = {path.stem: load_scenario(path, BOOKS, LIST) for path in document_files()}
PAGE = (ROOT / "docs" / "source-documents.md").read_text(encoding="utf-8")

# claim: (the document says, its own prices give, verdict, Modal's list gives)
FIGURES = {
    "gpu-requirements": {
        "hour-t4": ("$0.59/hr", "$0.5904", "holds", "$0.5900"),
        "hour-l4": ("$0.80/hr", "$0.7992", "holds", "$0.8000"),
        "hour-a10": ("$1.10/hr", "$1.1016", "holds", "$1.1000"),
        "hour-l40s": ("$1.95/hr", "$1.9512", "holds", "$1.9500"),
        "hour-a100-40": ("$2.00/hr", "$2.0016", "holds", "$2.1000"),
        "hour-a100-80": ("$2.50/hr", "$2.4984", "holds", "$2.5000"),
        "hour-h100": ("$3.95/hr", "$3.9492", "holds", "$3.9500"),
        "strategy-1-hour-flux-schnell": ("$0.59", "$0.59", "holds", "$0.59"),
        "strategy-1-hour-flux-dev": ("$1.95", "$1.95", "holds", "$1.95"),
        "strategy-1-hour-instantid": ("$1.10", "$1.10", "holds", "$1.10"),
        "strategy-1-hour-lora": ("$0.59", "$0.59", "holds", "$0.59"),
        "strategy-1-hour-wan21": ("$1.95", "$1.95", "holds", "$1.95"),
        "strategy-1-hour-seedvr2": ("$1.10", "$1.10", "holds", "$1.10"),
        "strategy-1-request-flux-schnell": ("~$0.001", "$0.0008–0.0025", "holds", "$0.0008–0.0025"),
        "strategy-1-request-flux-dev": ("~$0.010", "$0.0027–0.0081", "off", "$0.0027–0.0081"),
        "strategy-1-seconds-flux-dev": ("~5-15s", "18.5 s", "off", "18.5 s"),
        "strategy-1-request-instantid": ("~$0.006", "$0.0015–0.0046", "off", "$0.0015–0.0046"),
        "strategy-1-seconds-instantid": ("~5-15s", "19.6 s", "off", "19.6 s"),
        "strategy-1-request-lora": ("~$0.001", "$0.0008–0.0025", "holds", "$0.0008–0.0025"),
        "strategy-1-request-wan21": ("~$0.030", "$0.0027–0.0081", "off", "$0.0027–0.0081"),
        "strategy-1-seconds-wan21": ("~5-15s", "55.4 s", "off", "55.4 s"),
        "strategy-1-request-seedvr2": ("~$0.008", "$0.0015–0.0046", "off", "$0.0015–0.0046"),
        "strategy-1-seconds-seedvr2": ("~5-15s", "26.1 s", "off", "26.2 s"),
        "strategy-1-saving-flux-schnell": ("70% savings", "70%", "holds", "70%"),
        "strategy-1-saving-instantid": ("44% savings", "44%", "holds", "44%"),
        "strategy-1-saving-lora": ("70% savings", "70%", "holds", "70%"),
        "strategy-1-saving-seedvr2": ("44% savings", "44%", "holds", "44%"),
        "strategy-1-saving-total": ("~50-60%", "57%", "holds", "57%"),
        "strategy-1-saving-mix": ("~50-60%", "62%", "off", "62%"),
        "break-even-t4": ("–", "3.30×", "not stated", "3.31×"),
        "break-even-a10": ("–", "1.77×", "not stated", "1.77×"),
        "strategy-2-hour-flux-schnell": ("$1.10", "$1.10", "holds", "$1.10"),
        "strategy-2-hour-flux-dev": ("$1.95", "$1.95", "holds", "$1.95"),
        "strategy-2-hour-instantid": ("$1.95", "$1.95", "holds", "$1.95"),
        "strategy-2-hour-lora": ("$1.10", "$1.10", "holds", "$1.10"),
        "strategy-2-hour-wan21": ("$2.50", "$2.50", "holds", "$2.50"),
        "strategy-2-hour-seedvr2": ("$1.95", "$1.95", "holds", "$1.95"),
        "strategy-1-all-six": ("–", "37.8%", "not stated", "37.8%"),
        "strategy-2-all-six": ("–", "9.8%", "not stated", "9.8%"),
        "strategy-3-all-six": ("–", "37.8%", "not stated", "37.8%"),
        "current-flux-schnell": ("$2.17", "$2.168", "holds", "$2.167"),
        "current-flux-dev": ("$1.63", "$1.626", "holds", "$1.625"),
        "current-instantid": ("$1.08", "$1.084", "holds", "$1.083"),
        "current-lora": ("$0.54", "$0.542", "holds", "$0.542"),
        "current-day": ("$5.42/day", "$5.420", "holds", "$5.417"),
        "current-month": ("$162.60/month", "$162.60", "holds", "$162.50"),
        "hybrid-flux-schnell": ("$0.66", "$0.656", "holds", "$0.656"),
        "hybrid-flux-dev": ("$1.63", "$1.626", "holds", "$1.625"),
        "hybrid-instantid": ("$0.61", "$0.612", "holds", "$0.611"),
        "hybrid-lora": ("$0.16", "$0.164", "holds", "$0.164"),
        "hybrid-day": ("$3.06/day", "$3.058", "holds", "$3.056"),
        "hybrid-month": ("$91.80/month", "$91.80", "holds", "$91.80"),
        "hybrid-month-exact": ("$91.80/month", "$91.74", "off", "$91.67"),
        "saved-month": ("$70.80", "$70.80", "holds", "$70.80"),
        "saved-month-exact": ("$70.80", "$70.86", "off", "$70.83"),
        "saved-percent": ("44% reduction", "43.6%", "holds", "43.6%"),
        "current-day-idle": ("$5.42/day", "$37.94", "off", "$37.92"),
        "hybrid-day-idle": ("$3.06/day", "$21.41", "off", "$21.39"),
        "saved-percent-idle": ("44% reduction", "43.6%", "holds", "43.6%"),
        "hybrid-day-cpu-memory": ("$3.06/day", "$4.29", "off", "–"),
        "saved-percent-cpu-memory": ("44% reduction", "35.5%", "off", "–"),
    },
    "inference-cost-optimization": {
        "fp8-saving": ("57%", "57%", "holds", "44%"),
        "awq-saving": ("81%", "81%", "holds", "70%"),
        "option-t4": ("~$0.27", "$0.27", "holds", "$0.59"),
        "option-a10": ("~$0.60", "$0.60", "holds", "$1.10"),
        "option-l4": ("~$0.50", "$0.50", "holds", "$0.80"),
        "option-l40s": ("~$1.40", "$1.40", "holds", "$1.95"),
        "option-a100": ("~$2.50", "$2.50", "holds", "$2.50"),
        "inference-l40s-busy": ("~$0.05", "$0.0233", "off", "$0.0325"),
        "inference-l40s-two-minutes": ("~$0.05", "$0.0467", "holds", "$0.0650"),
        "inference-l40s-with-idle": ("~$0.05", "$0.0700", "off", "$0.0975"),
        "inference-a10-two-minutes": ("~$0.02", "$0.0200", "holds", "$0.0367"),
        "inference-a10-with-idle": ("~$0.02", "$0.0300", "off", "$0.0550"),
        "inference-t4-two-minutes": ("~$0.01", "$0.0090", "holds", "$0.0197"),
        "inference-t4-with-idle": ("~$0.01", "$0.0135", "holds", "$0.0295"),
        "monthly-l40s": ("~$5.00", "$5.00", "holds", "$6.00"),
        "monthly-l40s-exact": ("~$5.00", "$4.67", "off", "$6.50"),
        "monthly-l40s-with-idle": ("~$5.00", "$7.00", "off", "$9.75"),
        "monthly-a10": ("~$2.00", "$2.00", "holds", "$4.00"),
        "monthly-a10-with-idle": ("~$2.00", "$3.00", "off", "$5.50"),
        "monthly-t4": ("~$1.00", "$1.00", "holds", "$2.00"),
        "monthly-t4-exact": ("~$1.00", "$0.90", "off", "$1.97"),
        "monthly-t4-with-idle": ("~$1.00", "$1.35", "off", "$2.95"),
    },
    "inference-summary": {
        "hour-a10": ("$1.10", "$1.10", "holds", "$1.10"),
        "hour-a100": ("$3.00", "$3.00", "holds", "$2.10"),
        "qwen25": ("~$2-3", "$1.83", "holds", "$1.83"),
        "qwen25-measured": ("~$2-3", "$1.96", "holds", "$1.96"),
        "qwen25-three-dollars": ("6s/request", "9.8 s", "off", "9.8 s"),
        "flashinfer": ("~$1.70-2.50", "$1.68", "off", "$1.68"),
        "flashinfer-measured": ("~$1.70-2.50", "$1.07", "off", "$1.07"),
        "flashinfer-faster": ("10-20%", "14%", "holds", "14%"),
        "flashinfer-faster-measured": ("10-20%", "42–50%", "off", "42–50%"),
        "qwen3-30b": ("~$5-8", "$5.00", "holds", "$3.50"),
        "qwen3-30b-increase": ("2.7x", "2.7×", "holds", "1.9×"),
        "sglang": ("~$0.50-2", "$0.50–1.67", "holds", "$0.35–1.17"),
        "million-tokens": ("–", "$13.89–15.28", "not stated", "$13.89–15.28"),
    },
    "qwen-vllm-models": {
        "h100-hour": ("~$4.00", "$4.00", "holds", "$3.95"),
        "h100x4-hour": ("~$16.00", "$16.00", "holds", "$15.80"),
        "testing-80b": ("~$8", "$8.00", "holds", "$7.90"),
        "testing-480b": ("~$16", "$16.00", "holds", "$15.80"),
        "testing-total": ("~$50-100", "$24.00", "off", "$23.70"),
        "testing-total-hours": ("–", "3.12 h", "not stated", "3.16 h"),
        "light-traffic": ("~$4-8/hour", "$4.00", "holds", "$3.95"),
        "light-traffic-hourly-request": ("~$4-8/hour", "$0.34", "off", "$0.33"),
        "light-traffic-boot": ("–", "$0.53–0.67", "not stated", "$0.53–0.66"),
        "boot-480b": ("–", "$4.00–5.33", "not stated", "$3.95–5.27"),
        "tail-480b": ("–", "$2.67", "not stated", "$2.63"),
        "warm-80b": ("~$96/day", "$96.00", "holds", "$94.80"),
        "warm-480b": ("~$384/day", "$384.00", "holds", "$379.20"),
        "warm-80b-loads": ("~$96/day", "$192.00", "off", "$189.60"),
        "warm-80b-h200": ("~$96/day", "$108.96", "off", "–"),
        "warm-480b-loads": ("~$384/day", "$768.00", "off", "$758.40"),
        "warm-480b-h200": ("~$384/day", "$435.84", "off", "–"),
    },
    "qwen3-4b": {
        "hour-a10": ("~$0.40", "$0.40", "holds", "$1.10"),
        "hour-a100": ("~$1.50", "$1.50", "holds", "$2.10"),
        "hour-t4": ("~$0.35", "$0.35", "holds", "$0.59"),
        "credit": ("~12 hours", "12.50 h", "holds", "4.55 h"),
        "cheaper": ("3x cheaper", "3.75×", "off", "1.91×"),
        "saved-hour": ("~$1/hour", "$1.10", "holds", "$1.00"),
        "cold-start": ("–", "$0.0033–0.0100", "not stated", "$0.0092–0.0275"),
        "benchmark-run": ("–", "$0.0038", "not stated", "$0.0105"),
        "million-tokens": ("–", "$0.329", "not stated", "$0.905"),
    },
}


def findings(document: str) -> dict[str, Finding]:
    return {finding.claim.id: finding for finding in SCENARIOS[document].findings}


def claims(document: str) -> dict[str, ClaimShape]:
    return {name: finding.claim for name, finding in findings(document).items()}


def shown(finding: Finding) -> tuple[str, str, str, str]:
    decimals = shown_decimals(finding)
    computed, today = figure(finding.computed, decimals), figure(finding.today, decimals)
    return finding.claim.says or "–", computed, str(finding.verdict), today


def row(finding: Finding) -> str:
    """A finding's line of the page's tables."""
    says, computed, verdict, today = shown(finding)
    claim = finding.claim
    what = f"{claim.claim} ({claim.reading})" if claim.reading else claim.claim
    return f"| {claim.table} | {what} | {says} | {computed} | {verdict} | {today} | {claim.remark} |"


def test_there_are_five_documents_each_with_its_own_book() -> None:
    """Every document's book has its scenarios, under the document's title and date."""
    documents = {scenario.book: scenario for scenario in SCENARIOS.values()}
    assert set(documents) == {name for name in BOOKS if name.startswith("doc-")}
    for name, scenario in documents.items():
        assert (scenario.title, scenario.as_of) == (BOOKS[name].title, str(BOOKS[name].as_of or "undated"))


@pytest.mark.parametrize("document", FIGURES)
def test_every_figure_is_what_the_product_computes(document: str) -> None:
    """What is stated, computed and judged is exactly the table above, and no figure is missing from it."""
    assert {name: shown(finding) for name, finding in findings(document).items()} == FIGURES[document]


@pytest.mark.parametrize("document", FIGURES)
def test_every_price_of_a_document_s_book_is_in_its_figures(document: str) -> None:
    """No GPU of a book stands without an hourly figure that is checked."""
    scenario = SCENARIOS[document]
    hourly = {
        load.gpu
        for finding in scenario.findings
        if (cost := finding.claim.compute.cost) is not None
        for load in cost.loads
        if load.seconds is not None and load.seconds[0] == 3600 * load.requests
    }
    assert hourly >= set(BOOKS[scenario.book].gpus)


@pytest.mark.parametrize("document", FIGURES)
def test_the_page_shows_every_figure(document: str) -> None:
    """docs/source-documents.md has one line for each figure, as computed today."""
    missing = [row(finding) for finding in SCENARIOS[document].findings if row(finding) not in PAGE]
    assert missing == []


def test_the_cost_impact_analysis_comes_out_as_stated() -> None:
    """$5.42 a day becomes $3.06, 44% less, from the document's own prices per second."""
    found = findings("gpu-requirements")
    assert f"{found['current-day'].computed.low:.2f}" == "5.42"
    assert f"{found['hybrid-day'].computed.low:.2f}" == "3.06"
    assert f"{found['saved-percent'].computed.low:.0f}" == "44"
    assert all(found[name].verdict is Verdict.HOLDS for name in ("current-day", "hybrid-day", "saved-percent"))


def test_strategy_1_and_strategy_3_are_the_same() -> None:
    """Both place all six models on the same GPUs; Strategy 2 moves five of them."""
    placements = {}
    for number in (1, 2, 3):
        pair = claims("gpu-requirements")[f"strategy-{number}-all-six"].compute.saving
        assert pair is not None
        placements[number] = {load.name: load.gpu for load in pair.after.loads}
    assert placements[1] == placements[3]
    moved = [model for model, gpu in placements[2].items() if gpu != placements[1][model]]
    assert moved == ["Flux Schnell", "InstantID", "LoRA", "Wan2.1", "SeedVR2"]


def test_no_charges_when_idle_is_the_document_s_word_and_not_modal_s() -> None:
    """The document's book says that idle time is free, Modal's that it is billed; a lone request then costs 7 times."""
    assert BOOKS["doc-gpu-requirements"].bills_idle_tail is False
    assert BOOKS[LIST].bills_idle_tail is True
    found = findings("gpu-requirements")
    assert found["hybrid-day-idle"].computed.low == 7 * found["hybrid-day"].computed.low


def test_two_billed_minutes_is_the_only_reading_of_the_per_inference_column() -> None:
    """One minute fits none of the three rows to the cent, three minutes only the T4's, two fit all."""
    found = findings("inference-cost-optimization")
    verdicts = {
        gpu: [found[f"inference-{gpu}-{reading}"].verdict for reading in ("two-minutes", "with-idle")]
        for gpu in ("l40s", "a10", "t4")
    }
    holds, off = Verdict.HOLDS, Verdict.OFF
    assert verdicts == {"l40s": [holds, off], "a10": [holds, off], "t4": [holds, holds]}
    assert found["inference-l40s-busy"].verdict is off


def test_placements_that_the_page_calls_impossible_do_not_load() -> None:
    """Each case of the catalogue is on the page, and its arithmetic says that it cannot load."""
    catalog = load_catalog()
    for name, case in catalog.cases.items():
        assert f"`{name}`" in PAGE
        assert not fit(case.pool, catalog.gpus).loads


def test_the_page_cites_documents_by_title_and_date() -> None:
    """Each document is a heading of the page."""
    for scenario in SCENARIOS.values():
        assert heading(scenario) in PAGE


def heading(scenario: Scenario) -> str:
    return f"## {scenario.title} ({scenario.as_of})"
