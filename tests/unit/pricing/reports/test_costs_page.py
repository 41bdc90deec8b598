"""The ledger in the shape of OpenAI's organization costs and usage."""

from pathlib import Path
from typing import Any

import pytest

from pricing.reports.costs import PageQuery, costs, usage
from support.ledgers import DAY_1, DAY_2, LEDGER_NUSD

MIDNIGHT_1 = DAY_1 // 1_000_000 - 3_600
DAY_S = 86_400
NOW = DAY_2 + 3_600 * 1_000_000


def nano(result: dict[str, Any]) -> int:
    return round(result["amount"]["value"] * 1e9)


def test_a_page_of_costs_has_a_bucket_for_each_day(small_ledger: Path) -> None:
    """Days follow each other from midnight UTC, and together they are the whole ledger."""
    page = costs(small_ledger, PageQuery(MIDNIGHT_1), NOW)
    assert (page["object"], page["has_more"], page["next_page"]) == ("page", False, None)
    assert [bucket["start_time"] for bucket in page["data"]] == [MIDNIGHT_1, MIDNIGHT_1 + DAY_S]
    assert page["data"][0]["end_time"] == MIDNIGHT_1 + DAY_S
    amounts = [nano(result) for bucket in page["data"] for result in bucket["results"]]
    assert (len(amounts), sum(amounts)) == (2, LEDGER_NUSD)
    result = page["data"][0]["results"][0]
    assert (result["object"], result["amount"]["currency"]) == ("organization.costs.result", "usd")
    assert (result["project_id"], result["line_item"], result["api_key_id"]) == (None, None, None)


def test_costs_by_line_item_and_project(small_ledger: Path) -> None:
    """Busy time belongs to tenants; what the house carries has line items of its own."""
    page = costs(small_ledger, PageQuery(MIDNIGHT_1, group_by=("project_id", "line_item")), NOW)
    first_day = {(r["project_id"], r["line_item"]): nano(r) for r in page["data"][0]["results"]}
    assert first_day == {
        ("acme", "gpu.busy"): 7_000,
        ("acme", "gpu.failed"): 300,
        ("globex", "gpu.busy"): 500,
        (None, "gpu.boot"): 70,
        (None, "gpu.idle"): 30,
    }
    second_day = {r["line_item"]: nano(r) for r in page["data"][1]["results"]}
    assert second_day == {"gpu.busy": 900, "gpu.overrun": 100, "gpu.idle": 11, "gpu.adjustment": -1}


def test_a_tenant_sees_its_own_costs_whatever_it_asks_for(small_ledger: Path) -> None:
    """Naming another project does not show it, and the house's container time is nobody's."""
    query = PageQuery(MIDNIGHT_1, group_by=("project_id",), project_ids=("acme",), tenant="globex")
    results = [result for bucket in costs(small_ledger, query, NOW)["data"] for result in bucket["results"]]
    assert [(result["project_id"], nano(result)) for result in results] == [("globex", 500)]


def test_pages_follow_each_other(small_ledger: Path) -> None:
    """Reading page by page with the cursor gives the buckets of one large page."""
    whole = costs(small_ledger, PageQuery(MIDNIGHT_1, bucket_width="1h", limit=48), NOW)["data"]
    found, cursor = [], None
    while True:
        page = costs(small_ledger, PageQuery(MIDNIGHT_1, bucket_width="1h", limit=7, page=cursor), NOW)
        found += page["data"]
        cursor = page["next_page"]
        if not page["has_more"]:
            break
    assert found == whole


def test_a_start_inside_a_bucket_counts_from_that_instant(small_ledger: Path) -> None:
    """The bucket keeps its aligned begin, what was spent before the start is left out."""
    page = costs(small_ledger, PageQuery(MIDNIGHT_1 + 2 * 3_600, end_s=MIDNIGHT_1 + DAY_S), NOW)
    assert [(bucket["start_time"], bucket["results"]) for bucket in page["data"]] == [(MIDNIGHT_1, [])]


def test_filters_by_project_and_key(small_ledger: Path) -> None:
    """Only what the named projects and keys caused."""
    by_key = costs(small_ledger, PageQuery(MIDNIGHT_1, api_key_ids=("k9",)), NOW)
    assert sum(nano(result) for bucket in by_key["data"] for result in bucket["results"]) == 500
    by_project = costs(small_ledger, PageQuery(MIDNIGHT_1, project_ids=("acme", "globex")), NOW)
    assert sum(nano(r) for bucket in by_project["data"] for r in bucket["results"]) == 7_300 + 500 + 1_000


def test_usage_counts_requests_and_tokens(small_ledger: Path) -> None:
    """One result per group, with OpenAI's field names."""
    page = usage(small_ledger, PageQuery(MIDNIGHT_1, group_by=("project_id", "service_tier")), NOW)
    first_day = {
        (r["project_id"], r["service_tier"]): (r["num_model_requests"], r["input_tokens"], r["output_tokens"])
        for r in page["data"][0]["results"]
    }
    assert first_day == {
        ("acme", "standard"): (3, 200, 40),
        ("acme", "premium"): (1, 100, 20),
        ("globex", "standard"): (1, 100, 20),
    }
    assert page["data"][0]["results"][0]["object"] == "organization.usage.completions.result"


def test_usage_of_one_tenant_by_model(small_ledger: Path) -> None:
    """A tenant's own requests, by the model it asked for."""
    page = usage(small_ledger, PageQuery(MIDNIGHT_1, group_by=("model",), tenant="acme"), NOW)
    counted = [(r["model"], r["num_model_requests"]) for bucket in page["data"] for r in bucket["results"]]
    assert counted == [("chat", 4), ("chat", 1)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (PageQuery(MIDNIGHT_1, bucket_width="1w"), "bucket_width '1w' is not one of 1m, 1h, 1d"),
        (PageQuery(MIDNIGHT_1, limit=0), "limit 0 is not between 1 and 180"),
        (PageQuery(MIDNIGHT_1, limit=181), "limit 181"),
        (PageQuery(MIDNIGHT_1, end_s=MIDNIGHT_1), "must be after start_time"),
        (PageQuery(-1), "start_time -1 lies before 1970"),
        (PageQuery(MIDNIGHT_1, group_by=("colour",)), "cannot group by 'colour'; there are: project_id"),
        (PageQuery(MIDNIGHT_1, page="next"), "not a cursor"),
        (PageQuery(MIDNIGHT_1, page=f"page_{MIDNIGHT_1 - 1}"), "not a cursor"),
        (PageQuery(MIDNIGHT_1, page=f"page_{MIDNIGHT_1 + 99 * DAY_S}"), "not a cursor"),
    ],
)
def test_bad_questions_say_what_is_wrong(small_ledger: Path, query: PageQuery, message: str) -> None:
    """Each message names the parameter and what it may be."""
    with pytest.raises(ValueError, match=message):
        costs(small_ledger, query, NOW)


def test_usage_has_smaller_pages_for_small_buckets(small_ledger: Path) -> None:
    """The largest page depends on the width, as in OpenAI's usage."""
    with pytest.raises(ValueError, match="between 1 and 31 for buckets of 1d"):
        usage(small_ledger, PageQuery(MIDNIGHT_1, limit=32), NOW)


def test_without_a_start_the_latest_page_is_answered(small_ledger: Path) -> None:
    """Seven days of which today is the last; as many of the newest hours as asked for."""
    days = costs(small_ledger, PageQuery(), NOW)
    assert (len(days["data"]), days["has_more"]) == (7, False)
    today = days["data"][-1]
    assert today["start_time"] <= NOW // 1_000_000 < today["start_time"] + DAY_S
    hours = costs(small_ledger, PageQuery(bucket_width="1h", limit=3), NOW)
    assert (len(hours["data"]), hours["has_more"]) == (3, False)
