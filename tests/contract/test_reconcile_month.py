"""A month's ledger beside a bill that differs from it in known ways: what is named, written, and equal then."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pricing.budgets.lockfile import FileLock
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.read import reading, recent_rows
from pricing.ledger.rows import House
from pricing.ledger.upgrade import ensure_current
from pricing.money import NUSD_PER_USD
from pricing.reconcile.causes import Cause
from pricing.verify.sqlite import verify
from router.cli.main import app
from support.bills import BEGIN, HOURS, Distorted, Month, simulated_month, write_modal_csv
from support.example_ledger import A10, L4
from support.focus_rules import broken_rules, read_export
from support.shared_ledger import fill, fill_file, sum_problems

NEAR = 3  # nano-dollars an hour: a row's rounding, and that of a resource's part
SOME = 6 * 24  # hours, where no whole month is needed
WINDOW = ("--since", "2026-11-01", "--until", "2026-12-01")
ALL_WRONG = Distorted(
    boots_short=True,
    multiplier=Fraction(5, 4),
    memory_above=True,
    unseen_hours=frozenset(range(40, 60)),
    down_hours=frozenset(range(500, 530)),
)


def ran(ledger: LedgerPlace, bill: Path, *words: str) -> Result:
    place = ledger.dsn if isinstance(ledger, PostgresUrl) else str(ledger)
    return CliRunner().invoke(app, ["reconcile", "--ledger", place, "--bill", str(bill), *WINDOW, *words])


def found(ledger: LedgerPlace, bill: Path, *words: str) -> Any:
    return json.loads(ran(ledger, bill, "--format", "json", *words).stdout)


def caused(document: Any) -> dict[tuple[str, str], int]:
    return {(each["pool"], each["cause"]): each["nusd"] for each in document["causes"]}


def month_in(folder: Path, distorted: Distorted, hours: int = HOURS) -> tuple[Path, Path, Month]:
    month = simulated_month(1, distorted, hours)
    ledger, bill = folder / "ledger.sqlite", folder / "bill.csv"
    fill_file(ledger, month.rows)
    write_modal_csv(bill, month)
    return ledger, bill, month


def rows_of(place: LedgerPlace) -> int:
    with reading(place) as ledger:
        [count] = ledger.execute("SELECT count(*) FROM ledger_rows").fetchone()
    return int(count)


def test_a_bill_that_is_the_ledger_has_no_cause(tmp_path: Path) -> None:
    """Every day is captured in full, but for the rounding of rows; the status says that all is well."""
    ledger, bill, month = month_in(tmp_path, Distorted())
    document = found(ledger, bill)
    assert document["capture_rate"] == 1.0
    assert {each["cause"] for each in document["causes"]} <= {Cause.REST}
    assert sum(map(abs, caused(document).values())) <= NEAR * len(month.rows)
    assert (document["below"], document["factors"], document["unknown_apps"]) == ([], {}, {})
    assert ran(ledger, bill).exit_code == 0


@pytest.mark.parametrize(
    ("distorted", "expected"),
    [
        (Distorted(boots_short=True), {(L4, Cause.BOOT_UNSEEN)}),
        (Distorted(multiplier=Fraction(5, 4)), {(A10, Cause.MULTIPLIER)}),
        (Distorted(memory_above=True), {(L4, Cause.MEMORY_ABOVE_REQUEST), (A10, Cause.MEMORY_ABOVE_REQUEST)}),
        (Distorted(unseen_hours=frozenset({9, 80})), {(A10, Cause.TIME_UNSEEN), (L4, Cause.BOOT_UNSEEN)}),
        (Distorted(down_hours=frozenset(range(100, 140))), {(A10, Cause.ROUTER_DOWN), (L4, Cause.ROUTER_DOWN)}),
        (
            ALL_WRONG,
            {
                (A10, Cause.MULTIPLIER),
                (A10, Cause.TIME_UNSEEN),
                (A10, Cause.MEMORY_ABOVE_REQUEST),
                (A10, Cause.ROUTER_DOWN),
                (L4, Cause.BOOT_UNSEEN),
                (L4, Cause.MEMORY_ABOVE_REQUEST),
                (L4, Cause.ROUTER_DOWN),
            },
        ),
    ],
    ids=["boots", "multiplier", "memory", "time", "down", "all"],
)
def test_each_cause_is_named_with_its_amount(
    tmp_path: Path, distorted: Distorted, expected: set[tuple[str, Cause]]
) -> None:
    """To the rounding of rows; all causes together are the difference, to the nano-dollar."""
    ledger, bill, month = month_in(tmp_path, distorted)
    document = found(ledger, bill)
    causes = caused(document)
    assert {place for place, nusd in causes.items() if abs(nusd) > NEAR * len(month.rows)} == expected
    for place in expected:
        assert abs(causes[place] - month.truth[place]) <= NEAR * 2 * HOURS, place
    assert sum(causes.values()) == document["bill_nusd"] - document["ledger_nusd"]
    assert document["bill_nusd"] == pytest.approx(month.bill_nusd, abs=3 * HOURS)


@pytest.fixture(params=["file", "database"])
async def distorted_month(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LedgerPlace, Path, Month]:
    """The month with everything wrong, in either kind of ledger."""
    ledger, bill, month = month_in(tmp_path, ALL_WRONG)
    if request.param == "file":
        return ledger, bill, month
    url = PostgresUrl(request.getfixturevalue("postgres_url"))
    ensure_current(url)
    await fill(url, month.rows)
    return url, bill, month


def test_what_is_written_makes_the_ledger_the_bill(distorted_month: tuple[LedgerPlace, Path, Month]) -> None:
    """Once: a second run writes nothing. Sums by hour agree with rows, and no tenant pays more than before."""
    ledger, bill, month = distorted_month
    written = ran(ledger, bill, "--write")
    assert written.exit_code == 1  # what it found was below the threshold
    assert "below" in written.output
    document = found(ledger, bill)
    assert (document["capture_rate"], document["causes"], document["below"]) == (1.0, [], [])
    assert document["ledger_nusd"] == document["bill_nusd"]
    count = rows_of(ledger)
    again = ran(ledger, bill, "--write")
    assert (again.exit_code, rows_of(ledger)) == (0, count)
    assert "0 rows written" in again.output
    assert sum_problems(ledger) == []
    added = [each for each in recent_rows(ledger, 10**6) if each.row_id.startswith("reconcile:")]
    assert count == len(month.rows) + len(added)
    assert {(each.account, each.tenant, each.evidence.value) for each in added} == {
        (House.ADJUSTMENT, None, "observed")
    }
    assert sum(each.metered_nusd for each in added) == document["bill_nusd"]


def test_the_export_then_carries_the_bill(distorted_month: tuple[LedgerPlace, Path, Month], tmp_path: Path) -> None:
    """BilledCost of the month is the provider's bill; before, no row had one."""
    ledger, bill, _ = distorted_month
    place = ledger.dsn if isinstance(ledger, PostgresUrl) else str(ledger)
    out = tmp_path / "focus.csv"
    words = ["focus", "--ledger", place, "--out", str(out), *WINDOW]
    assert CliRunner().invoke(app, [*words, "--billed-only"]).output == f"0 rows written to {out}\n"
    ran(ledger, bill, "--write")
    assert CliRunner().invoke(app, words).exit_code == 0
    rows = read_export(out.read_text(encoding="utf-8"))
    assert broken_rules(each for each in rows if each["x_Phase"] == "reconciled") == []
    billed = sum(Fraction(each["BilledCost"] or 0) for each in rows) * NUSD_PER_USD
    assert billed == found(ledger, bill)["bill_nusd"]
    assert {each["x_Estimated"] for each in rows} == {"false"}


def test_budgets_still_agree(tmp_path: Path) -> None:
    """`sluice ledger verify` finds no more after a reconciliation than before it."""
    ledger, bill, _ = month_in(tmp_path, ALL_WRONG, SOME)
    before = verify(ledger, BEGIN)
    ran(ledger, bill, "--write")
    after = verify(ledger, BEGIN)
    assert after.problems == before.problems
    assert (after.rows > before.rows, after.requests) == (True, before.requests)


def test_a_bill_that_changed_writes_the_difference(tmp_path: Path) -> None:
    """Under the next number, and says that the hour had been reconciled; rows that came late are taken back as well."""
    ledger, bill, month = month_in(tmp_path, Distorted(boots_short=True), SOME)
    ran(ledger, bill, "--write")
    place = next(each for each in month.bill if each[1] == L4)
    month.bill[place] += Fraction(1, 1_000)
    write_modal_csv(bill, month)
    document = found(ledger, bill)
    assert caused(document) == {(L4, Cause.CHANGED_SINCE): 1_000_000}
    assert "\n1 row written, 1,000,000 nano-dollars" in ran(ledger, bill, "--write").output
    newest = recent_rows(ledger, 1)[0]
    assert newest.row_id.endswith(":gpu:2")
    assert (newest.amount_nusd, newest.metered_nusd) == (1_000_000, 1_000_000)
    late = simulated_month(7, Distorted(), 1).rows[0]
    fill_file(ledger, [late])
    assert ran(ledger, bill, "--write").exit_code == 0
    document = found(ledger, bill)
    assert document["ledger_nusd"] == document["bill_nusd"]


def test_a_bill_without_resources_is_enough(tmp_path: Path) -> None:
    """Multiplier and missing time are found by the whole alone, and the ledger becomes the bill all the same."""
    ledger, bill, month = month_in(tmp_path, Distorted(boots_short=True, multiplier=Fraction(5, 4)), SOME)
    sums: dict[tuple[int, str], Fraction] = {}
    for (at_us, pool, _), usd in month.bill.items():
        sums[at_us, pool] = sums.get((at_us, pool), Fraction(0)) + usd
    lines = [f"{(at_us - BEGIN) // 3_600_000_000},{pool},{float(usd):.12f}" for (at_us, pool), usd in sums.items()]
    stamped = [
        f"2026-11-{1 + int(h) // 24:02d}T{int(h) % 24:02d}:00Z,{rest}" for h, rest in (x.split(",", 1) for x in lines)
    ]
    bill.write_text("interval_start,pool,cost\n" + "\n".join(stamped) + "\n", encoding="utf-8")
    causes = caused(found(ledger, bill))
    big = {place for place, nusd in causes.items() if abs(nusd) > NEAR * len(month.rows)}
    assert big == {(A10, Cause.MULTIPLIER), (L4, Cause.BOOT_UNSEEN)}
    ran(ledger, bill, "--write")
    assert found(ledger, bill)["capture_rate"] == 1.0
    assert "0 rows written" in ran(ledger, bill, "--write").output


def test_the_threshold_is_said_as_it_was_given(tmp_path: Path) -> None:
    """Ninety-two and a half per cent is not ninety-two."""
    ledger, bill, _ = month_in(tmp_path, Distorted(), SOME)
    assert ran(ledger, bill, "--threshold", "0.925").output.endswith("; 0 days below 92.5%\n")


def test_what_the_bill_and_the_ledger_do_not_share_is_said(tmp_path: Path) -> None:
    """Apps that are no pool, pools that this bill never names, hours that it does not reach: none is compared."""
    ledger, bill, month = month_in(tmp_path, Distorted(), SOME)
    month.bill = {
        place: usd for place, usd in month.bill.items() if place[1] == A10 and place[0] < BEGIN + 24 * 3_600_000_000
    }
    write_modal_csv(
        bill, month, "ap-x,notebooks,main,2026-11-01T03:00:00,CPU,1.5,", "ap-y,other,main,2026-11-01T04:00:00,L4,2,"
    )
    document = found(ledger, bill)
    assert document["unknown_apps"] == {"notebooks": 1_500_000_000, "other": 2_000_000_000}
    l4 = sum(each.amount_nusd for each in month.rows if each.pool == L4)
    later = sum(
        each.amount_nusd for each in month.rows if each.pool == A10 and each.at_us >= BEGIN + 24 * 3_600_000_000
    )
    assert document["pools_not_in_bill"] == {L4: l4}
    assert document["not_covered_nusd"] == later
    assert {each["day"] for each in document["days"]} == {"2026-11-01"}
    ran(ledger, bill, "--write")
    assert {each.pool for each in recent_rows(ledger, 10**6) if each.row_id.startswith("reconcile:")} == {A10}
    printed = ran(ledger, bill).output
    assert "notebooks, $1.5000" in printed
    assert f"Not in this bill: {L4}" in printed


def test_the_policy_s_environment_is_the_one_that_counts(tmp_path: Path) -> None:
    """What staging was billed under the names of these pools is no money of this ledger."""
    ledger, bill, month = month_in(tmp_path, Distorted(), SOME)
    tag = '"{""pool"": ""' + L4 + '""}"'
    write_modal_csv(bill, month, f"ap-s,sluice-{L4},staging,2026-11-01T03:00:00,L4,1.5,{tag}")
    assert found(ledger, bill)["unknown_apps"] == {}
    rules = tmp_path / "policy.yaml"
    shipped = (resources.files("policies.files") / "default.yaml").read_text(encoding="utf-8")
    rules.write_text(f"{shipped}\nplatform:\n  modal:\n    environment: main\n", encoding="utf-8")
    document = found(ledger, bill, "--policy", str(rules))
    assert document["unknown_apps"] == {f"sluice-{L4} in environment staging": 1_500_000_000}
    assert document["capture_rate"] == 1.0


def test_days_below_the_threshold_are_the_status(tmp_path: Path) -> None:
    """A day with hours of which the router saw nothing; a lower threshold lets it pass."""
    ledger, bill, _ = month_in(tmp_path, Distorted(down_hours=frozenset(range(100, 110))), SOME)
    assert (found(ledger, bill)["below"], ran(ledger, bill).exit_code) == (["2026-11-05"], 1)
    assert (found(ledger, bill, "--threshold", "0.3")["below"], ran(ledger, bill, "--threshold", "0.3").exit_code) == (
        [],
        0,
    )


def test_csv_has_every_hour_and_resource(tmp_path: Path) -> None:
    """Its differences are those of the comparison, to the nano-dollar, and so are the causes beside them."""
    ledger, bill, _ = month_in(tmp_path, ALL_WRONG, SOME)
    document = found(ledger, bill)
    lines = list(csv.DictReader(io.StringIO(ran(ledger, bill, "--format", "csv").stdout)))
    difference = sum(Fraction(line["difference_usd"]) for line in lines) * NUSD_PER_USD
    causes = sum(Fraction(each.split("=")[1]) for line in lines for each in line["causes"].split()) * NUSD_PER_USD
    assert difference == causes == document["bill_nusd"] - document["ledger_nusd"]


@pytest.mark.parametrize(
    ("multiplier", "lines"),
    [
        (
            Fraction(5, 4),
            "    # everything is billed at 1.25 of what the ledger counts: a region that its price book does not have, "
            f"see below\n# modal-2026-10, for {A10}: name the region as the pool's row does\n"
            "region_multipliers: {region: 1.25}\n",
        ),
        (
            Fraction(3, 2),
            "    region: us # everything is billed at 1.5 of what the ledger counts; eu, ap, uk, ca, me, sa, af, mx "
            "cost the same\n",
        ),
    ],
)
def test_factors_are_lines_to_edit(tmp_path: Path, multiplier: Fraction, lines: str) -> None:
    """A region of the book that costs as much, or the line that the book lacks."""
    ledger, bill, _ = month_in(tmp_path, Distorted(multiplier=multiplier), SOME)
    said = ran(ledger, bill, "--factors").output
    assert said == f"pools:\n  {A10}:\n{lines}"
    YAML(typ="safe").load(said)


def test_a_month_without_factors_has_no_lines(tmp_path: Path) -> None:
    """It says so."""
    ledger, bill, _ = month_in(tmp_path, Distorted(), SOME)
    assert ran(ledger, bill, "--factors").output == "# no factor that most hours share\n"


def test_a_ledger_in_use_is_not_written(tmp_path: Path) -> None:
    """While an endpoint has the file, comparing goes on and writing is refused with what to do."""
    ledger, bill, month = month_in(tmp_path, Distorted(boots_short=True), SOME)
    lock = FileLock(ledger)
    try:
        assert ran(ledger, bill).exit_code == 0
        refused = ran(ledger, bill, "--write")
        assert "one process owns a ledger file" in str(refused.exception)
        assert rows_of(ledger) == len(month.rows)
    finally:
        lock.release()


def test_a_window_or_bill_that_holds_nothing(tmp_path: Path) -> None:
    """A bill of nothing is no success; a window without a whole hour, or no bill, or two, is refused."""
    ledger, bill, _ = month_in(tmp_path, Distorted(), SOME)
    bill.write_text("interval_start,app,cost\n", encoding="utf-8")
    empty = ran(ledger, bill)
    assert empty.exit_code == 1
    assert "Nothing to compare" in empty.output
    none = ran(tmp_path / "new.sqlite", bill)
    assert "no ledger at" in str(none.exception)
    for words in (("--modal",), ("--since", "2026-11-01T10:05Z", "--until", "2026-11-01T10:30Z")):
        refused = ran(ledger, bill, *words)
        assert refused.exit_code == 2
    nothing = CliRunner().invoke(app, ["reconcile", "--ledger", str(ledger)])
    assert nothing.exit_code == 2
    assert "--bill FILE.csv, or --modal" in nothing.output
