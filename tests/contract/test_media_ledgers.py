"""Pictures and clips in both kinds of ledger: what one of them cost, and which GPU does, read alike from either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.read import find_request
from pricing.ledger.rows import House, LedgerRow, RequestRow
from pricing.ledger.upgrade import ensure_current
from pricing.reports.criteria import Baseline, criteria_json, judge
from pricing.reports.render import as_json
from pricing.reports.report import report
from router.cli.report import app
from support.ledgers import recent_requests
from support.money import request, row
from support.shared_ledger import fill, fill_file, sum_problems
from support.values import replace

HOUR = 3_600_000_000
SINCE = 491_000 * HOUR  # in 2026, at an hour's begin
UNTIL = SINCE + 4 * HOUR
PICTURE = 1024 * 1024
EXPECTED = {"flux-schnell": Baseline(2.0, 1e6, measured=False), "wan2.1-1.3b": Baseline(240.0, 1e8, measured=False)}
Ledgers = tuple[Path, PostgresUrl]


def paid(request_id: str, hour: int, pool: str, model: str, nusd: int, seconds: float = 2.0) -> LedgerRow:
    made = row(f"{request_id}:1", nusd, pool=pool, gpu=pool.rpartition("-")[2].upper(), model=model)
    made = replace(made, at_us=SINCE + hour * HOUR + 7, duration_us=round(seconds * 1e6))
    return replace(made, prompt_tokens=None, completion_tokens=None)


def summary(of: LedgerRow, **came: int) -> RequestRow:
    assert of.request_id is not None
    made = request(of.request_id, at_us=of.at_us + 5, pool=of.pool, prompt_tokens=None, completion_tokens=None)
    return replace(made, model=of.model, gpu=of.gpu, **came)


def failed(request_id: str, hour: int, pool: str, nusd: int) -> LedgerRow:
    made = paid(request_id, hour, pool, "flux-schnell", nusd, 9.0)
    return replace(made, account=House.FAILED, outcome="out_of_memory")


def pictures_and_clips() -> tuple[list[LedgerRow], list[RequestRow]]:
    """In two hours: 3 + 2 pictures on the L40S, 1 on the T4 beside one that ran out of memory, a clip of 5 s."""
    rows = [
        paid("a", 0, "flux-l40s", "flux-schnell", 3_300),
        paid("b", 1, "flux-l40s", "flux-schnell", 2_200),
        paid("c", 1, "flux-t4", "flux-schnell", 4_400, 27.0),
        paid("d", 2, "wan-l40s", "wan2.1-1.3b", 130_000, 240.0),
    ]
    came = [
        {"images": 3, "media_pixels": 3 * PICTURE},
        {"images": 2, "media_pixels": PICTURE},
        {"images": 1, "media_pixels": PICTURE},
        {"clips": 1, "video_us": 5_062_500, "media_pixels": 81 * 832 * 480},
    ]
    requests = [summary(each, **what) for each, what in zip(rows, came, strict=True)]
    lost = failed("e", 2, "flux-t4", 1_000)
    return [*rows, lost], [*requests, summary(lost)]


@pytest.fixture
async def both(tmp_path: Path, postgres_url: str) -> Ledgers:
    path, url = tmp_path / "ledger.sqlite", PostgresUrl(postgres_url)
    rows, requests = pictures_and_clips()
    ensure_current(url)
    fill_file(path, rows, requests)
    await fill(url, rows, requests)
    return path, url


def by_pool(place: LedgerPlace, since_us: int, until_us: int) -> dict[str, Any]:
    return {line.key[0]: line for line in report(place, ("pool",), since_us, until_us).lines}


@pytest.mark.parametrize("cut_us", [0, 1], ids=["from sums by hour", "from rows too"])
async def test_a_picture_and_a_second_of_video_cost_the_same_in_both(both: Ledgers, cut_us: int) -> None:
    """5 pictures for 5,500 nano-dollars, one for 4,400 and a lost 1,000, 5.0625 s of video for 130,000."""
    for place in both:
        lines = by_pool(place, SINCE + cut_us, UNTIL - cut_us)
        assert {pool: (line.images, line.clips, line.video_us) for pool, line in lines.items()} == {
            "flux-l40s": (5, 0, 0),
            "flux-t4": (1, 0, 0),
            "wan-l40s": (0, 1, 5_062_500),
        }
        assert (lines["flux-l40s"].image_nusd, lines["flux-t4"].image_nusd) == (1_100.0, 5_400.0)
        assert lines["wan-l40s"].video_s_nusd == pytest.approx(130_000 / 5.0625)
        assert lines["wan-l40s"].image_nusd is None
        assert sum_problems(place) == []


@pytest.mark.parametrize("by", [("pool",), ("model", "gpu"), ("tenant",), ("hour", "pool"), ()])
async def test_reports_of_pictures_and_clips_are_equal(both: Ledgers, by: tuple[str, ...]) -> None:
    """Whatever they are grouped by, down to each figure of the JSON."""
    path, url = both
    assert as_json(report(url, by, SINCE, UNTIL)) == as_json(report(path, by, SINCE, UNTIL))


async def test_what_a_request_made_is_the_same_in_both(both: Ledgers) -> None:
    """Pictures, clips, their length and their pixels come back as they were written."""
    path, url = both
    _, requests = pictures_and_clips()
    written = {each.request_id: (each.images, each.clips, each.video_us, each.media_pixels) for each in requests}
    for place in both:
        read = recent_requests(place, 100)
        assert {
            each.request_id: (each.images, each.clips, each.video_us, each.media_pixels) for each in read
        } == written
    assert find_request(url, "d") == find_request(path, "d")


async def test_the_criteria_are_the_same_in_both(both: Ledgers) -> None:
    """Latency, success and saving of each pool, against the L40S of the same window."""
    path, url = both
    found = judge(path, SINCE, UNTIL, EXPECTED)
    assert criteria_json(judge(url, SINCE, UNTIL, EXPECTED)) == criteria_json(found)
    t4 = next(one for one in found if one.gpu == "T4")
    assert (t4.tried, t4.answered, t4.baseline) == (2, 1, Baseline(2.0, 2_750.0, measured=True))
    assert t4.verdicts == {"latency": False, "success": False, "saving": False}


async def test_the_verb_prints_the_same_of_both(both: Ledgers) -> None:
    """`sluice report`, with the columns of pictures and clips and with `--criteria`, takes either ledger."""
    path, url = both
    window = ["--since", "2026-01-01", "--until", "2026-02-01"]
    for asked in (["--by", "pool", "--format", "json"], ["--criteria", "--format", "json"]):
        found = [CliRunner().invoke(app, [*asked, *window, "--ledger", str(at)]) for at in (path, url.dsn)]
        assert [each.exit_code for each in found] == [0, 0], [each.output for each in found]
        assert json.loads(found[0].output) == json.loads(found[1].output)
        assert "flux-t4" in found[0].output
