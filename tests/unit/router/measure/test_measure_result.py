"""What is computed from samples: percentiles, rates, money, the comparison with the model, the document and the row."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.catalog.load import load_catalog
from pools.failures.classes import FailureClass
from pools.fit.timing import timing_model
from pools.platform import ContainerInfo
from pricing.money import cost_nusd
from pricing.prices.billed import Billed
from router.measure.claims import calibration, claims
from router.measure.cold import ColdStart
from router.measure.load import Load, Sample
from router.measure.record import COLUMNS, add_row, check_rows, document, row
from router.measure.result import Measurement, Serving, assumed_serving, listed_serving, spread
from router.measure.subject import CannotMeasure, Shape, Subject, check_shape
from support.measuring import RATE
from support.repository import ROOT
from support.simulated import RATE_NUSD_PER_H, SPEC
from support.values import replace

SHAPE = Shape(requests=4, concurrency=2, prompt_tokens=30, output_tokens=11)
SUBJECT = Subject("https://me:secret@pool.example/v1?token=secret", "tiny-qwen3", SPEC, 5.0, RATE_NUSD_PER_H, RATE)
NOT_A_DOCUMENT_FIELD = "sluice"

# "Raw Benchmark Data" of the document "Qwen3-4B vLLM Inference Service", as it stands there.
RAW_DATA = json.loads("""{
  "timestamp": "2026-01-16T19:26:28",
  "total_requests": 50,
  "successful_requests": 50,
  "total_tokens": 11619,
  "avg_tokens_per_request": 232.38,
  "tps": 337.46,
  "avg_latency_ms": 6267.76,
  "p50_latency_ms": 6769.81,
  "p99_latency_ms": 8557.64
}""")


def answered(sent_us: int, latency_us: int, tokens: int = 11) -> Sample:
    """A whole answer whose first token came after a tenth of its time."""
    return Sample(sent_us, sent_us + latency_us // 10, sent_us + latency_us, 30, tokens)


def measurement(samples: list[Sample], **changes: Any) -> Measurement:
    """A load of 2 s, in one container."""
    load = Load(0, samples, 2_000_000)
    made = Measurement(SUBJECT, SHAPE, 1_795_000_000_000_000, samples[0], load, Serving(2_000_000, "platform"))
    return replace(made, **changes)


FOUR = [answered(0, 1_000_000), answered(0, 900_000), answered(1_000_000, 1_000_000), answered(900_000, 500_000)]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_percentiles_are_values_that_were_measured(values: list[int]) -> None:
    """Each is one of the values, at least its share of the values is no larger, and they are in order."""
    found = spread(values)
    assert found is not None
    for share, value in ((50, found.p50_us), (90, found.p90_us), (95, found.p95_us), (99, found.p99_us)):
        assert value in values
        assert sum(one <= value for one in values) * 100 >= share * len(values)
        assert sum(one < value for one in values) * 100 < share * len(values)
    assert min(values) <= found.mean_us <= found.max_us == max(values)
    assert spread([]) is None


def test_the_document_has_the_fields_of_the_raw_data() -> None:
    """Names, order and kinds are those of the source document; everything of ours lies under one key."""
    written = document(measurement(FOUR))
    assert list(written) == [*RAW_DATA, NOT_A_DOCUMENT_FIELD]
    assert {name: type(written[name]) for name in RAW_DATA} == {name: type(value) for name, value in RAW_DATA.items()}
    assert len(written["timestamp"]) == len(RAW_DATA["timestamp"])


def test_the_raw_data_of_the_document_comes_out_of_its_own_figures() -> None:
    """50 answers of 11,619 tokens in 34.43 s give the document's averages and tokens a second."""
    samples = [Sample(0, 1, 6_267_760, 20, tokens) for tokens in [232] * 31 + [233] * 19]
    load = Load(0, samples, 34_430_000)
    written = document(measurement(samples, load=load, shape=Shape()))
    for name in ("total_requests", "successful_requests", "total_tokens", "avg_tokens_per_request", "avg_latency_ms"):
        assert written[name] == RAW_DATA[name]
    assert written["tps"] == pytest.approx(RAW_DATA["tps"], abs=0.05)


def test_money_is_container_time_at_the_rate() -> None:
    """Shares are of the whole, rounded half to even once each; boot and idle window stand apart."""
    cold = ColdStart("platform", 1.0, 3, 6.0, 7.0, 5.5, "platform")
    made = measurement(FOUR, cold=cold)
    whole = cost_nusd(RATE_NUSD_PER_H, 2_000_000)
    assert (made.cost_nusd, made.request_nusd, made.thousand_nusd) == (whole, round(whole / 4), whole * 250)
    assert made.million_tokens_nusd == pytest.approx(whole * 1e6 / 44, abs=1)
    assert made.boot_nusd == cost_nusd(RATE_NUSD_PER_H, 5_500_000)
    assert made.idle_window_nusd == cost_nusd(RATE_NUSD_PER_H, 60_000_000)
    free = replace(made.subject, rate=replace(RATE, billed=Billed(boot=False, idle=False)))
    assert (replace(made, subject=free).boot_nusd, replace(made, subject=free).idle_window_nusd) == (0, 0)


def test_failed_requests_cost_those_that_were_answered() -> None:
    """They took the pool's time; their own times and tokens count nowhere."""
    failed = Sample(0, None, 9_000_000, None, 5, failure=FailureClass.TIMEOUT, detail="no first token within 9 s")
    made = measurement([*FOUR[:3], failed])
    assert made.request_nusd == pytest.approx(cost_nusd(RATE_NUSD_PER_H, 2_000_000) / 3, abs=1)
    assert (made.tokens, made.error_rate, dict(made.errors)) == (33, 0.25, {"timeout": 1})
    assert made.latency is not None
    assert made.latency.max_us == 1_000_000


def test_without_a_price_no_dollar_is_made_up() -> None:
    """Every amount is null where nobody said what an hour costs."""
    cost = document(measurement(FOUR, subject=Subject("http://x", "m")))["sluice"]["cost"]
    assert {
        name for name, value in cost.items() if name.startswith(("usd", "boot", "idle")) and value is not None
    } == set()


def test_containers_count_from_when_they_were_ready() -> None:
    """One that was ready before, one that came in the midst, one that still boots, one whose list does not say."""
    listed = [
        ContainerInfo("a", "ready", 0, 5),
        ContainerInfo("b", "ready", 20, 150),
        ContainerInfo("c", "booting", 9, None),
        ContainerInfo("d", "ready", 130, None),
    ]
    assert listed_serving(listed, 100, 200) == Serving(100 + 50 + 70, "platform")


@pytest.mark.parametrize(
    ("subject", "shape", "containers"),
    [
        (SUBJECT, SHAPE, 1),
        (SUBJECT, replace(SHAPE, requests=50, concurrency=9), 2),  # 8 are a container's target
        (SUBJECT, replace(SHAPE, requests=50, concurrency=32), 2),  # the most that the row allows
        (replace(SUBJECT, always_on=3), SHAPE, 3),
        (Subject("http://x", "m"), replace(SHAPE, requests=50, concurrency=32), 1),
    ],
)
def test_where_nobody_lists_containers_the_row_says_how_many(subject: Subject, shape: Shape, containers: int) -> None:
    """As many as the target makes of the concurrency, at most the row's; those of a plain server; else one."""
    assert assumed_serving(subject, shape, 1000) == Serving(containers * 1000, "row")


def test_the_claims_are_the_models_for_what_was_sent() -> None:
    """Sizes as counted, beside as many as ran on average; ratios are measured over claimed."""
    made = measurement(FOUR, cold=ColdStart("platform", 0, 1, 6, 7, 4.0, "platform"))
    time = timing_model(SPEC).estimate(30, 11, 1)  # 3.4 s of requests in 2 s: 1.7 at a time
    found = {one.what: one for one in claims(made)}
    assert found["whole answer, mean"].claimed == time.total_s
    assert found["whole answer, mean"].measured == pytest.approx(0.85)
    assert found["first token, p95"].claimed == time.ttft_p95_s
    assert found["boot"].ratio == pytest.approx(4.0 / 5.0)


@pytest.mark.parametrize("had", [1.0, 1.7])
def test_a_row_with_the_factor_found_claims_what_was_measured(had: float) -> None:
    """Whatever factor the row had before, the new one makes the model's whole answer the measured mean."""
    made = measurement(FOUR, subject=replace(SUBJECT, pool=replace(SPEC, time_factor=had)))
    found = calibration(made)
    assert found is not None
    again = replace(made, subject=replace(SUBJECT, pool=replace(SPEC, time_factor=found.time_factor)))
    whole = next(one for one in claims(again) if one.what == "whole answer, mean")
    assert whole.ratio == pytest.approx(1.0, abs=0.002)


def test_what_may_be_secret_in_an_address_is_not_written() -> None:
    """Neither user, password nor query of the URL is in the document."""
    written = document(measurement(FOUR))
    assert written["sluice"]["url"] == "https://pool.example/v1"
    assert "secret" not in json.dumps(written)


def test_rows_are_added_below_one_head_and_read_by_the_model_s_comparison(tmp_path: Path) -> None:
    """Two measurements make two lines, which `benchmarks/timing_model.py FILE` takes beside its own sources."""
    path = tmp_path / "rows.csv"
    made = measurement(
        FOUR, subject=replace(SUBJECT, pool=load_catalog().pools["qwen3-4b-bf16-a10"], machine="one A10, somewhere")
    )
    for _ in range(2):
        check_rows(path)
        add_row(path, row(made))
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [list(one) for one in rows] == [list(COLUMNS)] * 2
    assert (rows[0]["model"], rows[0]["gpu"], rows[0]["requests"], rows[0]["date"]) == (
        "qwen3-4b",
        "A10",
        "2",
        "2026-11-18",
    )
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "timing_model.py"))
    cases = list(benchmark["measured"](path))
    assert [case.what.split(": ")[1] for case in cases] == ["whole answer", "first token"] * 2


def test_a_file_that_cannot_take_a_row_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """Another file's columns, and a folder that is not there, are named."""
    other = tmp_path / "other.csv"
    other.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(CannotMeasure, match=r"other\.csv:1: its columns are not those of measured rows"):
        check_rows(other)
    with pytest.raises(CannotMeasure, match="there is no folder"):
        check_rows(tmp_path / "none" / "rows.csv")
    with pytest.raises(CannotMeasure, match="it takes a pool, and answers"):
        row(measurement(FOUR, subject=Subject("http://x", "m")))


@pytest.mark.parametrize(
    ("shape", "pool", "says"),
    [
        (Shape(prompt_tokens=400, output_tokens=200), SPEC, r"400 \+ 200 tokens are more than the 512 of 'tiny-a10'"),
        (Shape(concurrency=33), SPEC, r"at most 32 requests at once \(2 containers × 16\)"),
    ],
)
def test_a_load_that_the_pool_cannot_take_is_refused(shape: Shape, pool: Any, says: str) -> None:
    """Too long, or too many at once: said with the numbers and the option to lower."""
    with pytest.raises(CannotMeasure, match=says):
        check_shape(shape, pool)
