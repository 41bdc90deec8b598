"""The figures of a report beside its sums: cost of one, latencies, use of pools, evidence, books, the baseline."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from pricing.reports import query
from pricing.reports.baseline import Baseline, BaselinePool
from pricing.reports.columns import ColumnSet, every_set, parts_of
from pricing.reports.figures import Latency, Timed
from pricing.reports.lines import HouseLine, Line
from pricing.reports.render import as_csv, as_json
from pricing.reports.report import Part, Report, report
from support.example_ledger import A10, BEGIN, L4, T4
from support.money import request, row
from support.shared_ledger import fill_file
from support.values import replace

SINCE, UNTIL = BEGIN - 34 * 3_600 * 10**6, BEGIN + 28 * 24 * 3_600 * 10**6
US = 10**6
USD = 10**9


def whole(ledger: Path, *by: str, **more: object) -> Report:
    return report(ledger, by, SINCE, UNTIL, parts=parts_of(every_set(by)), **more)  # type: ignore[arg-type]


def by_key(found: Report) -> dict[str, Line]:
    return {line.key[0]: line for line in found.lines}


def test_cost_of_one(ledger: Path) -> None:
    """shop: $3.10 for 300 requests and 60,000 tokens; what failed is in it."""
    shop = by_key(whole(ledger, "tenant"))["shop"]
    assert shop.request_nusd == pytest.approx(3.1 * USD / 300)
    assert shop.thousand_requests_nusd == pytest.approx(3.1 * USD / 0.3)
    assert shop.million_tokens_nusd == pytest.approx(3.1 * USD / 0.06)


def test_cost_of_one_follows_the_view(ledger: Path) -> None:
    """Shared boots and idle time are part of what a request costs."""
    shop = by_key(whole(ledger, "tenant", house="weighted"))["shop"]
    assert (shop.boot_nusd, shop.idle_nusd, shop.total_nusd) == (310_000_000, 1_550_000_000, 4_960_000_000)
    assert shop.request_nusd == pytest.approx(4.96 * USD / 300)


def test_tags_are_one_value_and_sorted(tmp_path: Path) -> None:
    """Two orders of the same tags are one line, a marker of ours none, and no request is in two lines."""
    path = tmp_path / "ledger.sqlite"
    tags = (("eu", "batch"), ("batch", "eu"), ("batch", "__store_down__"), ())
    rows = [row(f"r{n}:1", USD, at_us=BEGIN, tags=each) for n, each in enumerate(tags)]
    asked = [request(f"r{n}", at_us=BEGIN, tags=each) for n, each in enumerate([tags[0], tags[1], ("batch",), ()])]
    fill_file(path, rows, asked)
    found = {line.key[0]: (line.busy_nusd, line.requests) for line in report(path, ["tag"], SINCE, UNTIL).lines}
    assert found == {"batch, eu": (2 * USD, 2), "batch": (USD, 1), "-": (USD, 1)}


def test_pools_are_used_as_their_rows_say(ledger: Path) -> None:
    """l4 was busy for $4.10 of $6.56 and booted 8 times in 30 days, 50 s each; t4 was idle alone."""
    pools = {use.pool: use for use in whole(ledger).pools or ()}
    l4 = pools[L4]
    assert (l4.busy_nusd, l4.alive_nusd, l4.boots) == (4_100_000_000, 6_560_000_000, 8)
    assert l4.utilisation == pytest.approx(4.1 / 6.56)
    assert (l4.boot_s, l4.boots_per_day) == (50.0, pytest.approx(8 * 86_400 * US / (UNTIL - SINCE)))
    assert (pools[T4].utilisation, pools[T4].boot_s) == (0.0, None)
    assert list(pools) == [L4, A10, T4]


def test_evidence_is_a_share_of_the_cost(ledger: Path) -> None:
    """Containers of l4 were listed, those of a10 modelled: all of shop's $3.10 is observed, $1 of lab's $3."""
    lines = by_key(whole(ledger, "tenant"))
    assert lines["shop"].observed_share == 1.0
    assert lines["lab"].observed_share == pytest.approx(1 / 3)
    assert lines["lab"].estimated_share == 0.0


def test_shared_container_time_brings_its_evidence(ledger: Path) -> None:
    """lab's $4.20 under `weighted`: $1.00 busy, $0.10 of boots and $0.50 of idle time on l4 were observed."""
    lines = by_key(whole(ledger, "tenant", house="weighted"))
    assert lines["shop"].observed_share == 1.0
    assert lines["lab"].observed_share == pytest.approx(1.6 / 4.2)


def test_container_time_says_what_it_rests_on(ledger: Path) -> None:
    """Boots and idle time of l4 were listed, those of other pools modelled; sums over pools are divided by cost."""
    apart = as_json(whole(ledger, "pool"))["separate"]
    assert {(line["pool"], line["observed_share"]) for line in apart} == {(L4, 1.0), (T4, 0.0), (A10, 0.0)}
    for line in as_json(whole(ledger))["separate"]:
        parts = [each for each in apart if each["account"] == line["account"]]
        assert line["observed_nusd"] == sum(each["amount_nusd"] for each in parts if each["pool"] == L4) > 0
        assert line["observed_share"] == line["observed_nusd"] / line["amount_nusd"]
    table = csv.DictReader(io.StringIO(as_csv(whole(ledger, "pool"))))
    assert {row["observed_share"] for row in table if row["account"] and row["pool"] == L4} == {"1.000000"}
    assert HouseLine("__adjustment__", (), 0, 0, 5).observed_share is None


def test_latencies_are_right_within_one_percent(ledger: Path) -> None:
    """Nearest rank of what the rows say: a10 answered in 2.0 to 3.56 s, 40 ms apart."""
    found = whole(ledger, "pool")
    latencies = found.latencies or {}
    times = sorted(2.1 + n * 0.04 for n in range(40))
    for share in (0.5, 0.95, 0.99):
        rank = max(1, -int(-share * 40 // 1))
        assert latencies[A10,].at(Timed.REQUEST, share) == pytest.approx(times[rank - 1], rel=0.01)
    assert latencies[A10,].at(Timed.FIRST_TOKEN, 0.5) == pytest.approx(0.4, rel=0.01)
    assert latencies[A10,].at(Timed.TOKENS_PER_S, 0.5) == pytest.approx(199 / (times[20] - 0.5), rel=0.02)
    assert latencies[()].at(Timed.REQUEST, 0) == pytest.approx(2.1, rel=0.01)
    assert Latency().at(Timed.REQUEST, 0.5) is None


def test_latencies_by_tag_outcome_and_policy_come_from_the_rows(ledger: Path) -> None:
    """Everything of lab has the tags batch and eu, all was served under one policy: the same figures either way."""
    by_tenant = (whole(ledger, "tenant").latencies or {})["lab",]
    for by, key in ((["tag"], ("batch, eu",)), (["outcome", "tag"], ("served", "batch, eu"))):
        assert (report(ledger, by, SINCE, UNTIL, parts=[Part.LATENCY]).latencies or {})[key] == by_tenant
    by_policy = report(ledger, ["policy", "tenant"], SINCE, UNTIL, parts=[Part.LATENCY]).latencies or {}
    assert by_policy["p1", "lab"] == by_tenant


def test_latencies_of_too_many_rows_are_refused(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """440 requests are one too many where 439 are read; the message says what to ask for instead."""
    monkeypatch.setattr(query, "TIMED_ROWS_AT_MOST", 439)
    refusal = r"latencies by tag and policy are read row by row, .* more than 439 rows; .*tenant, key, class, pool"
    with pytest.raises(ValueError, match=refusal):
        report(ledger, ["tag", "pool", "policy"], SINCE, UNTIL, parts=[Part.LATENCY])
    assert report(ledger, ["tag"], SINCE, BEGIN + 12 * 3_600 * US, parts=[Part.LATENCY]).latencies
    assert whole(ledger, "pool").latencies


def test_a_line_shows_the_books_in_force(tmp_path: Path) -> None:
    """Rows before and after a change of prices are in one line, which names both books."""
    path = tmp_path / "ledger.sqlite"
    old, new = row("a:1", USD, at_us=BEGIN), row("b:1", 2 * USD, at_us=BEGIN + US)
    other = replace(row("c:1", USD, "globex", at_us=BEGIN), price_books="modal-2026-10")
    fill_file(path, [replace(old, price_books="modal-2026-10"), replace(new, price_books="modal-2026-11"), other])
    found = report(path, ["tenant"], SINCE, UNTIL, parts=[Part.BOOKS])
    both = ("modal-2026-10", "modal-2026-11")
    assert found.books == {("acme",): both, ("globex",): both[:1], (): both}
    assert as_json(found)["lines"][0]["price_books"] == list(both)
    assert {line["price_books"] for line in csv.DictReader(io.StringIO(as_csv(found)))} == {" ".join(both), both[0]}


def flat(name: str, seconds: float, nusd_per_h: int) -> BaselinePool:
    return BaselinePool(name, "H100", 2, nusd_per_h, lambda prompt, output: seconds * prompt / 1_000)


def test_all_on_a_named_pool(ledger: Path) -> None:
    """440 requests of 1,000 tokens, 9 s each at $36 an hour: $0.09 a request, whoever asked."""
    found = whole(ledger, "tenant", baseline=Baseline("all on big", flat("big", 9.0, 36 * USD)))
    assert {key: line.baseline_nusd for key, line in by_key(found).items()} == {
        "shop": 27 * USD,
        "lab": 12_600_000_000,
    }
    [needed] = found.needed
    assert (needed.nusd, needed.container_us) == (39_600_000_000, 440 * 9 * US)
    assert found.total.saving_nusd == 39_600_000_000 - 6_100_000_000
    document = as_json(found)["baseline_needed"]
    assert document == [
        {"pool": "big", "gpu": "H100", "gpu_count": 2, "container_s": 3960.0, "gpu_s": 7920.0, "usd": 39.6}
    ]


def test_csv_has_every_phase_in_its_column(ledger: Path) -> None:
    """Charged + house + boot + idle + adjustment is the total of each line, and of the ledger."""
    for house in ("separate", "weighted"):
        lines = list(csv.DictReader(io.StringIO(as_csv(whole(ledger, "tenant", "day", house=house)))))
        phases = ("charged_usd", "house_usd", "boot_usd", "idle_usd", "adjustment_usd")
        for line in lines:
            assert sum(round(float(line[name] or 0) * USD) for name in phases) == round(float(line["total_usd"]) * USD)
        assert sum(round(float(line["total_usd"]) * USD) for line in lines) == 9_210_000_000


def test_a_sheet_has_the_sets_that_are_asked_for(ledger: Path) -> None:
    """And the total, so that whatever else is in it adds up to the ledger."""
    lines = list(csv.DictReader(io.StringIO(as_csv(whole(ledger, "tenant"), [ColumnSet.UNIT]))))
    units = ["request_usd", "thousand_requests_usd", "million_tokens_usd"]
    assert list(lines[0]) == ["tenant", "account", "total_usd", *units, "container_s", "price_books"]
    assert sum(round(float(line["total_usd"]) * USD) for line in lines) == 9_210_000_000
