"""The document's success criteria, and what a picture and a second of video cost."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import Settlement
from pricing.clock import ManualClock, SystemClock
from pricing.ledger.rows import House, LedgerRow
from pricing.money import cost_nusd
from pricing.reports.criteria import Baseline, Judged, criteria_json, criteria_table, judge
from pricing.reports.render import as_csv, as_json
from pricing.reports.report import Report, report
from pricing.reports.table import as_table
from router.cli.report import app, expected_baselines
from support.choosing import shipped
from support.money import UTC, cap, caps, request, row, wish
from support.values import replace

NOW_US = SystemClock().wall_us()
HOUR_US = 3_600_000_000
EXPECTED = {"flux-schnell": Baseline(2.0, 1_000_000.0, measured=False)}


def tried(number: int, gpu: str, seconds: float, nusd: int, outcome: str = "answered") -> LedgerRow:
    pool = f"flux-{gpu.lower()}"
    failed = outcome not in ("answered", "client_gone")
    account = House.FAILED if failed else "acme"
    made = row(f"r{number}:1", nusd, account, pool=pool, gpu=gpu, model="flux-schnell", at_us=NOW_US - HOUR_US)
    return replace(made, tenant="acme", outcome=outcome, duration_us=round(seconds * 1e6))


async def ledger_of(path: Path, rows: list[LedgerRow], **came: int) -> Path:
    store = SqliteStore(path, ManualClock(NOW_US), caps(cap(10**12), zone=UTC))
    for one in rows:
        hold = one.row_id.removesuffix(":attempt")
        await store.open(wish(hold, one.amount_nusd))
        summary = request(hold.split(":")[0], at_us=one.at_us, pool=one.pool, request_class="flux")
        made = came if one.outcome == "answered" else {}
        summary = replace(summary, prompt_tokens=None, completion_tokens=None, **made)
        spent = 0 if one.account.startswith("__") else one.amount_nusd
        await store.settle(Settlement(hold, spent, (one,), summary))
    await store.aclose()
    return path


def judged(path: Path) -> dict[str, Judged]:
    return {one.gpu: one for one in judge(path, 0, NOW_US, EXPECTED)}


async def test_the_criteria_are_held_against_the_measured_baseline(tmp_path: Path) -> None:
    """Where the L40S ran in the window, its median seconds and mean cost are what others are compared with."""
    rows = [tried(number, "L40S", 2.0, 1_000) for number in range(3)]
    rows += [tried(number, "A10", 2.3, 650) for number in range(3, 6)]
    rows += [tried(number, "T4", 9.0, 1_500) for number in range(6, 8)] + [tried(8, "T4", 1.0, 10, "out_of_memory")]
    found = judged(await ledger_of(tmp_path / "ledger.sqlite", rows))
    assert found["L40S"].verdicts == {"latency": True, "success": True, "saving": None}
    assert found["A10"].verdicts == {"latency": True, "success": True, "saving": True}
    assert found["T4"].verdicts == {"latency": False, "success": False, "saving": False}
    assert found["A10"].saving == pytest.approx(0.35)
    assert found["T4"].success == pytest.approx(2 / 3)
    assert found["T4"].baseline == Baseline(2.0, 1_000.0, measured=True)


async def test_without_a_measured_baseline_the_catalogue_s_is_taken_and_marked(tmp_path: Path) -> None:
    """The table shows a modelled figure with ~, JSON says where it is from."""
    path = await ledger_of(tmp_path / "ledger.sqlite", [tried(1, "T4", 27.0, 4_400_000)])
    [one] = judge(path, 0, NOW_US, EXPECTED)
    assert one.verdicts == {"latency": False, "success": True, "saving": False}
    out = io.StringIO()
    Console(file=out, width=160).print(criteria_table([one], "since 24h"))
    assert "27.0 vs ~2.0 NO" in out.getvalue()
    assert criteria_json([one])[0]["baseline"]["from"] == "modelled"


def test_a_saving_reads_as_its_verdict() -> None:
    """Three tenths of a per cent decide: 30.3% is more than 30%, and is not written as if it were not."""
    baseline = Baseline(2.0, 1_000.0, measured=True)
    out = io.StringIO()
    one = Judged("flux-dev", "flux-dev-fp8-a10", "A10", 10, 10, 2.0, 697.0, baseline)
    Console(file=out, width=160).print(criteria_table([one], "since 24h"))
    assert "30.3% yes" in out.getvalue()


async def test_savings_are_asked_of_cheaper_gpus_only(tmp_path: Path) -> None:
    """An A100 costs more by the second: it is judged by latency and success, and its table has no verdict on savings.

    One slow answer of the baseline's, which moves the mean and not the median, makes the A100 no cheaper.
    """
    rows = [tried(number, "L40S", seconds, round(542_000 * seconds)) for number, seconds in enumerate((10, 10, 30))]
    rows += [tried(number, "A100-40GB", 9.0, 9 * 583_000) for number in range(3, 6)]
    rows += [tried(number, "A10", 11.0, 11 * 306_000) for number in range(6, 9)]
    found = judged(await ledger_of(tmp_path / "ledger.sqlite", rows))
    assert found["A100-40GB"].verdicts == {"latency": True, "success": True, "saving": None}
    assert found["A10"].verdicts == {"latency": True, "success": True, "saving": True}
    by_catalogue = Baseline(10.0, 5_420_000.0, measured=False)
    dearer = Judged("flux-dev", "flux-dev-bf16-a100-40", "A100-40GB", 10, 10, 9.0, 6_000_000.0, by_catalogue)
    assert dearer.saving is None


async def test_a_client_that_left_is_no_failure_of_the_pool(tmp_path: Path) -> None:
    """Attempts that clients ended are neither tried nor answered; a pool that failed always has no latency."""
    rows = [tried(1, "T4", 3.0, 10, "client_gone"), tried(2, "A10", 1.0, 5, "timeout")]
    found = judged(await ledger_of(tmp_path / "ledger.sqlite", rows))
    assert set(found) == {"A10"}
    assert found["A10"].verdicts == {"latency": None, "success": False, "saving": None}


def test_the_catalogue_s_baseline_is_its_seconds_at_the_price_of_the_gpu() -> None:
    """FLUX.1 Schnell on the L40S: 2.2 s; models without a pool there have no baseline."""
    policy = shipped("gpu-requirements-performance")
    found = expected_baselines(policy)
    rate = policy.rates["flux-schnell-bf16-l40s"].nusd_per_h
    assert found["flux-schnell"] == Baseline(2.2, cost_nusd(rate, 2_200_000), measured=False)
    assert "wan2.1-14b" not in found


async def test_the_verb_prints_it(tmp_path: Path) -> None:
    """`sluice report --criteria` draws the table or prints JSON, and says so where there is nothing."""
    path = await ledger_of(tmp_path / "ledger.sqlite", [tried(1, "T4", 27.0, 4_400_000)])
    run = CliRunner()
    shown = run.invoke(app, ["--criteria", "--format", "json", "--ledger", str(path)])
    assert json.loads(shown.output)[0]["pool"] == "flux-t4"
    assert "flux-t4" in run.invoke(app, ["--criteria", "--ledger", str(path)]).output
    nothing = run.invoke(app, ["--criteria", "--ledger", str(path), "--since", "1m"])
    assert "nothing to judge" in nothing.output
    ended = run.invoke(app, ["--criteria", "--ledger", str(path), "--since", "2026-01-01", "--until", "2026-01-02"])
    window = "from 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z"
    assert ended.output == f"No pool made pictures or clips {window}, so there is nothing to judge.\n"
    refused = run.invoke(app, ["--criteria", "--tenant", "acme", "--ledger", str(path)])
    assert (refused.exit_code, "leave --tenant out" in refused.output) == (2, True)
    assert run.invoke(app, ["--criteria", "--format", "csv", "--ledger", str(path)]).exit_code == 2


async def test_a_picture_and_a_second_of_video_have_their_price(tmp_path: Path) -> None:
    """Busy cost over what came, failed attempts included; a group that made several kinds of things has none."""
    rows = [tried(1, "T4", 9.0, 900), tried(2, "T4", 9.0, 300, "out_of_memory")]
    pictures = whole(await ledger_of(tmp_path / "pictures.sqlite", rows, images=4))
    assert (pictures.total.images, pictures.total.image_nusd, pictures.total.video_s_nusd) == (4, 300.0, None)
    clips = whole(await ledger_of(tmp_path / "clips.sqlite", rows, clips=1, video_us=5_000_000))
    assert (clips.total.image_nusd, clips.total.video_s_nusd) == (None, 240.0)
    both = whole(await ledger_of(tmp_path / "both.sqlite", rows, images=1, clips=1, video_us=5_000_000))
    assert (both.total.image_nusd, both.total.video_s_nusd) == (None, None)
    out = io.StringIO()
    Console(file=out, width=220).print(as_table(pictures))
    assert "per image" in out.getvalue()
    assert as_json(clips)["total"]["video_s_usd"] == pytest.approx(240e-9)
    header, line, *_ = as_csv(pictures).splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["image_usd"] == "0.000000300"


def whole(path: Path) -> Report:
    return report(path, ("pool",), 0, NOW_US)
