"""Reports of any ledger: every view, grouping and zone adds up to the rows, and shares stay where they fell."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.ledger.rows import Evidence, House, LedgerRow, RequestRow, RowKind
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.figures import Latency
from pricing.reports.lines import CONTAINER_ACCOUNTS
from pricing.reports.report import Part, Report, report
from pricing.reports.share import HouseView
from support.money import house_row, request, row
from support.shared_ledger import empty_file, fill_file
from support.values import replace

HOUR_US = 3_600 * 10**6
SINCE = 1_774_656_000 * 10**6  # 2026-03-28: the clocks of Berlin change a day later
UNTIL = SINCE + 50 * HOUR_US
INSTANTS = st.integers(SINCE, UNTIL - 1)
POOLS = st.sampled_from(["l4", "a10", "t4"])
TENANTS = st.sampled_from(["acme", "globex", "initech"])
TAGS = st.lists(st.sampled_from(["batch", "team", "eu"]), unique=True, max_size=2).map(tuple)
TIERS = st.sampled_from(["economy", "standard"])
POLICIES = st.sampled_from(["p1", "p2"])
EVIDENCE = st.sampled_from(Evidence)
DURATIONS = st.integers(0, 600 * 10**6)
FIRST_TOKENS = st.none() | st.integers(0, 60 * 10**6)
TIMED = sorted(name for name, each in DIMENSIONS.items() if each.timed)
ZONES = st.sampled_from([ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")])
GROUPINGS = st.lists(st.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=3)
Books = tuple[list[LedgerRow], list[RequestRow]]
EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def books(draw: st.DrawFn) -> Books:
    """Requests with one or two attempts, answered or failed, and container rows of any size."""
    rows: list[LedgerRow] = []
    requests: list[RequestRow] = []
    for number in range(draw(st.integers(0, 8))):
        tenant, tags, at_us, tier = draw(TENANTS), draw(TAGS), draw(INSTANTS), draw(TIERS)
        attempts = draw(st.integers(1, 2))
        for attempt in range(1, attempts + 1):
            paid = row(f"r{number}:{attempt}", draw(st.integers(0, 10**12)), tenant, at_us=at_us, pool=draw(POOLS))
            failed = attempt < attempts
            account = House.FAILED if failed and draw(st.booleans()) else tenant
            paid = replace(paid, tier=tier)
            paid = replace(paid, account=account, tags=tags, outcome="timeout" if failed else "answered")
            paid = replace(paid, policy_version=draw(POLICIES), evidence=draw(EVIDENCE), ttft_us=draw(FIRST_TOKENS))
            rows.append(replace(paid, duration_us=draw(DURATIONS), completion_tokens=draw(st.integers(0, 500))))
        asked = request(f"r{number}", tenant, at_us=at_us, pool=rows[-1].pool, tags=tags, attempts=attempts)
        asked = replace(asked, tier_asked=tier, tier_served=draw(TIERS))
        asked = replace(asked, policy_version=rows[-1].policy_version, duration_us=draw(DURATIONS))
        requests.append(replace(asked, outcome=draw(st.sampled_from(["served", "broken"]))))
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from([RowKind.BOOT, RowKind.IDLE, RowKind.ADJUSTMENT]))
        least = -(10**9) if kind is RowKind.ADJUSTMENT else 0
        amount = draw(st.integers(least, 10**12))
        made = house_row(f"h{number}", kind, amount, draw(INSTANTS), draw(POOLS))
        rows.append(replace(made, tenant=None, evidence=draw(EVIDENCE)))
    return rows, requests


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    fill_file(path, ())
    return path


def written(ledger: Path, found: Books) -> Path:
    empty_file(ledger)
    fill_file(ledger, *found)
    return ledger


def all_of(found: Report) -> int:
    return sum(line.total_nusd for line in found.lines) + sum(line.amount_nusd for line in found.separate)


@EXAMPLES
@given(found=books(), by=GROUPINGS, view=st.sampled_from(HouseView), zone=ZONES)
def test_every_view_adds_up_to_the_rows(
    ledger: Path, found: Books, by: list[str], view: HouseView, zone: ZoneInfo
) -> None:
    """Σ lines + what stands apart = Σ rows, to the nano-dollar, and no view changes what anyone paid."""
    said = report(written(ledger, found), by, SINCE, UNTIL, house=view, zone=zone)
    rows = found[0]
    assert all_of(said) == said.ledger_nusd == sum(each.amount_nusd for each in rows)
    assert said.total.busy_nusd == sum(each.amount_nusd for each in rows if each.account not in CONTAINER_ACCOUNTS)
    assert said.total.requests == len(found[1])
    separate = report(ledger, by, SINCE, UNTIL, zone=zone)
    paid = {line.key: (line.charged_nusd, line.house_nusd) for line in separate.lines}
    assert {line.key: (line.charged_nusd, line.house_nusd) for line in said.lines} == paid


@EXAMPLES
@given(found=books(), by=st.lists(st.sampled_from(["tenant", "class", "tier", "tag"]), unique=True, max_size=4))
def test_what_was_asked_stands_beside_what_it_cost(ledger: Path, found: Books, by: list[str]) -> None:
    """By who asked for what, each line has the requests whose attempts it paid, whichever pools of which tier ran."""
    attempts: dict[tuple[str, ...], int] = defaultdict(int)
    asked: dict[tuple[str, ...], int] = defaultdict(int)
    for each in found[1]:
        names = {"tenant": each.tenant, "class": "chat", "tier": each.tier_asked, "tag": ", ".join(sorted(each.tags))}
        key = tuple(names[name] or "-" for name in by)
        asked[key] += 1
        attempts[key] += each.attempts
    said = report(written(ledger, found), by, SINCE, UNTIL)
    assert {line.key: line.requests for line in said.lines} == asked
    assert {line.key: line.attempts for line in said.lines} == attempts


@EXAMPLES
@given(found=books(), view=st.sampled_from(HouseView))
def test_shares_stay_in_their_pool(ledger: Path, found: Books, view: HouseView) -> None:
    """By pool, every view gives a pool its own container time, and nothing of another's."""
    said = report(written(ledger, found), ["pool"], SINCE, UNTIL, house=view)
    by_pool: dict[str, int] = defaultdict(int)
    for line in said.lines:
        by_pool[line.key[0]] += line.total_nusd
    for apart in said.separate:
        by_pool[apart.key[0]] += apart.amount_nusd
    rows: dict[str, int] = defaultdict(int)
    for each in found[0]:
        rows[each.pool] += each.amount_nusd
    assert by_pool == rows
    if view is not HouseView.SEPARATE:
        used = {each.pool for each in found[0] if each.kind is RowKind.ATTEMPT and each.amount_nusd > 0}
        assert not used & {apart.key[0] for apart in said.separate}


@EXAMPLES
@given(found=books(), view=st.sampled_from(HouseView), by=GROUPINGS)
def test_one_tenants_report_is_its_part_of_everyones(
    ledger: Path, found: Books, view: HouseView, by: list[str]
) -> None:
    """A tenant asked for by name is shown what the report of all shows for it, its share of container time included."""
    written(ledger, found)
    by = [name for name in by if name != "tenant"]
    grouped = [*by[:1], "tenant", *by[1:]]
    everyone = report(ledger, grouped, SINCE, UNTIL, house=view)
    at = grouped.index("tenant")
    for tenant in ("acme", "globex"):
        alone = report(ledger, by, SINCE, UNTIL, tenant, house=view)
        lines = [line for line in everyone.lines if line.key[at] == tenant]
        mine = {(*line.key[:at], *line.key[at + 1 :]): line.total_nusd for line in lines}
        assert {line.key: line.total_nusd for line in alone.lines} == mine
        assert alone.separate == ()


@EXAMPLES
@given(found=books(), zone=ZONES)
def test_days_are_those_of_the_zone(ledger: Path, found: Books, zone: ZoneInfo) -> None:
    """A row counts on the day that a calendar of the zone shows, also around a change of the clocks."""
    said = report(written(ledger, found), ["day"], SINCE, UNTIL, zone=zone)
    days: dict[str, int] = defaultdict(int)
    for each in found[0]:
        days[datetime.fromtimestamp(each.at_us // 10**6, UTC).astimezone(zone).strftime("%Y-%m-%d")] += each.amount_nusd
    told: dict[str, int] = defaultdict(int)
    for line in said.lines:
        told[line.key[0]] += line.total_nusd
    for apart in said.separate:
        told[apart.key[0]] += apart.amount_nusd
    assert told == days


@EXAMPLES
@given(found=books(), by=st.lists(st.sampled_from(["tenant", "tag", "pool", "day"]), unique=True, max_size=2))
def test_what_failed_is_counted_once(ledger: Path, found: Books, by: list[str]) -> None:
    """Failed attempts by class, on the lines and among the rows are the same ones, at the same cost."""
    said = report(written(ledger, found), by, SINCE, UNTIL, parts=[Part.FAILURES])
    failed = [each for each in found[0] if each.outcome == "timeout"]
    house = sum(each.amount_nusd for each in failed if each.account == House.FAILED)
    total, classes = said.total, said.failures or ()
    assert total.failed == sum(each.attempts for each in classes) == len(failed)
    assert total.failed_house_nusd == sum(each.house_nusd for each in classes) == house
    charged = sum(each.amount_nusd for each in failed) - house
    assert total.failed_charged_nusd == sum(each.charged_nusd for each in classes) == charged
    assert total.fell_back == sum(each.attempts > 1 for each in found[1])
    assert total.attempts == sum(each.kind is RowKind.ATTEMPT for each in found[0])


@EXAMPLES
@given(
    found=books(),
    by=st.lists(st.sampled_from(TIMED), unique=True, max_size=2),
    more=st.lists(st.sampled_from(["tier", "tag", "outcome", "policy"]), unique=True, min_size=1, max_size=3),
    zone=ZONES,
)
def test_latencies_of_the_rows_are_those_of_the_sums(
    ledger: Path, found: Books, by: list[str], more: list[str], zone: ZoneInfo
) -> None:
    """Read row by row by tag, outcome or policy, and added up over these, they are what the sums by hour have."""
    written(ledger, found)
    kept = report(ledger, by, SINCE, UNTIL, zone=zone, parts=[Part.LATENCY]).latencies or {}
    fine = report(ledger, [*by, *more], SINCE, UNTIL, zone=zone, parts=[Part.LATENCY]).latencies or {}
    added: dict[tuple[str, ...], Counter[tuple[str, int]]] = defaultdict(Counter)
    for key, latency in fine.items():
        if key:
            added[key[: len(by)]] += counted(latency)
    told = {key: counted(latency) for key, latency in kept.items() if key or not by}
    assert {key: each for key, each in added.items() if each} == {key: each for key, each in told.items() if each}
    assert counted(fine[()]) == counted(kept[()])


@EXAMPLES
@given(found=books(), by=GROUPINGS, view=st.sampled_from(HouseView))
def test_evidence_is_shared_with_what_it_is_of(ledger: Path, found: Books, by: list[str], view: HouseView) -> None:
    """What was observed of busy, boot and idle is on the lines or apart, all of it, and no share is more than all."""
    said = report(written(ledger, found), by, SINCE, UNTIL, house=view)
    observed = [each for each in found[0] if each.evidence is Evidence.OBSERVED and each.kind is not RowKind.ADJUSTMENT]
    apart = sum(line.observed_nusd for line in said.separate if line.account != House.ADJUSTMENT)
    assert said.total.observed_nusd + apart == sum(each.amount_nusd for each in observed)
    shares = [line.observed_share for line in (*said.lines, said.total)]
    assert [share for share in shares if share is not None and not 0 <= share <= 1] == []


def counted(latency: Latency) -> Counter[tuple[str, int]]:
    """How many were in each bucket of each thing that is timed."""
    return Counter(
        {(what, bucket): count for what, counts in latency.counts.items() for bucket, count in counts.items()}
    )
