"""One suite over both kinds of ledger: what is read from a file is what is read from PostgreSQL."""

from __future__ import annotations

import asyncio
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.errors import StoreUnavailable
from pricing.ledger.place import PostgresUrl
from pricing.ledger.policy_history import PolicyVersion, PremiumPool, remember
from pricing.ledger.read import find_request, recent_rows
from pricing.ledger.rows import House, LedgerRow, RequestRow, RowKind, SchemaResult
from pricing.ledger.upgrade import ensure_current
from pricing.reports.costs import COSTS_GROUPS, USAGE_GROUPS, PageQuery, costs, usage
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.report import Part, report
from support.ledgers import DAY_1, DAY_2, recent_requests, write_small_ledger
from support.shared_ledger import empty_database, empty_file, fill, fill_file, sum_problems

HOUR = 3_600_000_000
HOURS = 80
PREMIUM = {
    "p1": (PremiumPool("big", "L40S", 1, 2_000_000_000, ("chat", "code")),),
    "p2": (PremiumPool("huge", "H100", 2, 8_000_000_000, ("chat",)), PremiumPool("big", "L40S", 1, 10**9, ("code",))),
}
Ledgers = tuple[Path, PostgresUrl]
Written = tuple[list[LedgerRow], list[RequestRow]]


@pytest.fixture
async def small(tmp_path: Path, postgres_url: str) -> Ledgers:
    """The small ledger as a file, and the same rows in a database."""
    path, url = tmp_path / "ledger.sqlite", PostgresUrl(postgres_url)
    await asyncio.to_thread(write_small_ledger, path)
    ensure_current(url)
    await fill(url, reversed(recent_rows(path, 1000)), recent_requests(path, 1000))
    return path, url


@pytest.mark.parametrize("since_us", [DAY_1, DAY_1 + 1, DAY_1 - HOUR // 2, DAY_2])
@pytest.mark.parametrize("tenant", [None, "acme", "nobody"])
async def test_reports_are_equal(small: Ledgers, since_us: int, tenant: str | None) -> None:
    """Every grouping and every pair of groupings gives the same report, to the nano-dollar; singly with all parts."""
    for by in [(), *combinations(DIMENSIONS, 1), *combinations(DIMENSIONS, 2)]:
        until_us = DAY_2 + 1
        parts = tuple(Part) if len(by) < 2 else ()
        found = [report(place, by, since_us, until_us, tenant, parts=parts) for place in small]
        assert found[0] == found[1], by


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
async def test_pages_are_equal(small: Ledgers, width: str) -> None:
    """Costs and usage in the shape of OpenAI's are the same pages, whatever they are grouped by."""
    path, url = small
    for page_of, groups in ((costs, COSTS_GROUPS), (usage, USAGE_GROUPS)):
        for by in [(), *combinations(groups, 1), *combinations(groups, 2)]:
            for tenant in (None, "acme"):
                query = PageQuery(start_s=DAY_1 // 10**6 - 90, bucket_width=width, group_by=by, tenant=tenant)
                assert page_of(url, query, DAY_2 + HOUR) == page_of(path, query, DAY_2 + HOUR), by


async def test_rows_and_requests_are_equal(small: Ledgers) -> None:
    """What was written last, and a request with all it was given, are the same."""
    path, url = small
    for tenant in (None, "globex", "nobody"):
        assert recent_rows(url, 7, tenant) == recent_rows(path, 7, tenant)
        assert {each.request_id for each in recent_requests(url, 100, tenant)} == {
            each.request_id for each in recent_requests(path, 100, tenant)
        }
    for request_id in ("a", "c", "d", "e", "nothing"):
        assert find_request(url, request_id) == find_request(path, request_id)
    assert find_request(url, "c", tenant="globex") is None


def test_a_database_without_tables_says_what_creates_them(postgres_url: str) -> None:
    """An address that holds no ledger is no empty ledger."""
    with pytest.raises(StoreUnavailable, match=r"no ledger at postgresql://127.*; `sluice serve` and"):
        recent_rows(PostgresUrl(postgres_url), 1)


INSTANTS = st.integers(0, HOURS * HOUR)
NAMES = st.sampled_from(["acme", "globex", "initech"])
POOLS = st.sampled_from(["l4", "a10"])


@st.composite
def written(draw: st.DrawFn) -> Written:
    """Rows with ids of their own, of tenants and the house, with and without a summary, at any instant."""
    rows: list[LedgerRow] = []
    requests: list[RequestRow] = []
    for number in range(draw(st.integers(0, 12))):
        tenant, request_id = draw(NAMES), f"r{number}"
        kinds = draw(st.lists(st.sampled_from(RowKind), min_size=1, max_size=3, unique=True))
        rows += [_row(draw, request_id, tenant, kind) for kind in kinds]
        if draw(st.booleans()):
            requests.append(_summary(draw, request_id, tenant))
    return rows, requests


def _row(draw: st.DrawFn, request_id: str, tenant: str, kind: RowKind) -> LedgerRow:
    return LedgerRow(
        row_id=f"{request_id}:1:{kind}",
        at_us=draw(INSTANTS),
        kind=kind,
        account=draw(st.sampled_from([tenant, *House])),
        amount_nusd=draw(st.integers(-(10**12), 10**15)),
        metered_nusd=draw(st.integers(0, 10**15)),
        pool=draw(POOLS),
        gpu=draw(st.sampled_from(["", "L4"])),
        model="m",
        policy_version=draw(st.sampled_from(["p1", "p2"])),
        price_books="b",
        tenant=draw(st.sampled_from([tenant, None])),
        key_id=draw(st.sampled_from(["k", None])),
        request_id=draw(st.sampled_from([request_id, None])),
        attempt=1,
        tier=draw(st.sampled_from(["economy", None])),
        duration_us=draw(st.integers(0, 10**9)),
        prompt_tokens=draw(st.none() | st.integers(0, 10**6)),
        completion_tokens=draw(st.none() | st.integers(0, 10**6)),
        estimated=draw(st.booleans()),
        schema_result=draw(st.none() | st.sampled_from(SchemaResult)),
    )


def _summary(draw: st.DrawFn, request_id: str, tenant: str) -> RequestRow:
    return RequestRow(
        request_id=request_id,
        at_us=draw(INSTANTS),
        tenant=tenant,
        key_id="k",
        endpoint="/v1/completions",
        model_asked=draw(st.sampled_from(["chat", "code", "ü \x7f"])),
        request_class=draw(st.sampled_from(["chat", "code"])),
        tier_asked="economy",
        tier_served=draw(st.sampled_from(["economy", "premium", None])),
        pool=draw(POOLS | st.none()),
        outcome=draw(st.sampled_from(["served", "refused"])),
        status=200,
        error_code=None,
        attempts=1,
        stream=False,
        duration_us=draw(st.integers(0, 10**9)),
        prompt_tokens=draw(st.none() | st.integers(0, 10**6)),
        completion_tokens=None,
        baseline_nusd=draw(st.none() | st.integers(0, 10**12)),
        policy_version=draw(st.sampled_from([*PREMIUM, "p3"])),
        decisions_json=b"[]",
        images=draw(st.integers(0, 40)),
        clips=draw(st.integers(0, 4)),
        video_us=draw(st.integers(0, 10**10)),
        media_pixels=draw(st.integers(0, 10**12)),
    )


@pytest.fixture
def both(tmp_path: Path, postgres_url: str) -> Ledgers:
    path, url = tmp_path / "ledger.sqlite", PostgresUrl(postgres_url)
    fill_file(path, ())
    ensure_current(url)
    for place in (path, url):
        for version, pools in PREMIUM.items():
            remember(place, PolicyVersion(version, "b", 1, "r1", 1, "r1", (), pools))
    return path, url


def needed_of(requests: list[RequestRow]) -> dict[str, int]:
    """Nano-dollars of baselines by the premium pool of each request's class and policy, or by the version that has none
    noted.
    """
    pools = {(version, name): each.pool for version, some in PREMIUM.items() for each in some for name in each.classes}
    found: dict[str, int] = {}
    for each in requests:
        if each.baseline_nusd:
            name = pools.get((each.policy_version, each.request_class), each.policy_version)
            found[name] = found.get(name, 0) + each.baseline_nusd
    return found


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    everything=written(),
    window=st.tuples(INSTANTS, INSTANTS).filter(lambda ends: ends[0] != ends[1]),
    by=st.lists(st.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=3),
    tenant=st.none() | NAMES,
)
def test_any_rows_give_the_same_report_in_any_window(
    both: Ledgers, everything: Written, window: tuple[int, int], by: list[str], tenant: str | None
) -> None:
    """Whole hours from their sums and the ends of the window from the rows are the rows, wherever a window is cut."""
    path, url = both
    empty_database(url)
    empty_file(path)
    rows, requests = everything
    fill_file(path, rows, requests)
    asyncio.run(fill(url, rows, requests))
    assert sum_problems(url) == []
    since_us, until_us = sorted(window)
    found = report(path, by, since_us, until_us, tenant)
    assert report(url, by, since_us, until_us, tenant) == found
    mine = [each for each in requests if since_us <= each.at_us < until_us and tenant in (None, each.tenant)]
    needed = {each.pool: each.nusd for each in found.needed} | {each.policy: each.nusd for each in found.not_known}
    assert needed == needed_of(mine)
    query = PageQuery(start_s=since_us // 10**6, end_s=until_us // 10**6 + 1, bucket_width="1h", limit=HOURS + 1)
    assert costs(url, query, 0) == costs(path, query, 0)
    query = PageQuery(start_s=since_us // 10**6, end_s=until_us // 10**6 + 1, group_by=("service_tier", "model"))
    assert usage(url, query, 0) == usage(path, query, 0)
