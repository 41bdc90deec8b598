"""The FOCUS export of rows whose pools have changed since: each is divided and priced by what was in force then."""

from __future__ import annotations

import asyncio
import io
import json
from collections import defaultdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.compile.load import load_policy
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.policy_history import PolicyVersion, policy_versions, remember
from pricing.ledger.policy_pools import NotedPool
from pricing.ledger.rows import LedgerRow, RowKind
from pricing.ledger.upgrade import ensure_current
from pricing.prices.book import shipped_books
from pricing.prices.token_price import TokenPrice
from pricing.reports.focus import Exported, FocusAsked, write_focus
from pricing.reports.focus_pools import Given
from router.cli.main import app
from router.views.priced import given
from support.endpoint import before_scripts, one_pool
from support.example_ledger import BEGIN, HOUR
from support.focus_rules import Row, broken_rules, read_export
from support.money import house_row, row
from support.scripted_server import Exchange
from support.shared_ledger import fill, fill_file
from support.values import replace

ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }
).encode()
POOL = "chat-pool"
SHIPPED = "qwen3-vl-8b-fp8-l4"
BOOK = "modal-2026-10"
L4 = NotedPool(POOL, BOOK, "modal", "serverless", "L4", 1, 4.0, 32.0, None, 800_000_000, 189_200_000, 256_000_000)
MOVED = replace(L4, gpu="A10", gpu_nusd_per_h=1_100_000_000)
PINNED = replace(  # everything 1.5 times
    L4, region="us", gpu_nusd_per_h=1_200_000_000, cpu_nusd_per_h=283_800_000, memory_nusd_per_h=384_000_000
)
EDITED = replace(L4, gpu_nusd_per_h=700_000_000)  # somebody corrected the book in its place
TWICE = replace(L4, gpu_count=2, gpu_nusd_per_h=1_600_000_000, cpu_cores=8.0, cpu_nusd_per_h=378_400_000)
BY_TOKENS = replace(
    L4, book="api-1", provider="tokens-inc", product="chat", gpu="api", gpu_count=0, gpu_nusd_per_h=0,
    cpu_cores=0.0, cpu_nusd_per_h=0, memory_gib=0.0, memory_nusd_per_h=0, tokens=TokenPrice("big", 5, 15, 5),
)  # fmt: skip
VERSIONS = {"l4": L4, "moved": MOVED, "pinned": PINNED, "edited": EDITED, "twice": TWICE, "tokens": BY_TOKENS}


def spent(version: str, **more: object) -> LedgerRow:
    """One container of a version, busy for an hour; all within one hour of the export."""
    noted = VERSIONS.get(version, L4)
    parts = (noted.gpu_nusd_per_h, noted.cpu_nusd_per_h, noted.memory_nusd_per_h)
    made = row(f"{version}:1", sum(parts) or 2_000, at_us=BEGIN, pool=POOL, gpu=noted.gpu, policy_version=version)
    return replace(made, **{"price_books": noted.book, "duration_us": HOUR, **more})


def in_force(version: str) -> PolicyVersion:
    noted = VERSIONS[version]
    return PolicyVersion(version, noted.book, BEGIN, "r1", BEGIN, "r1", (), (), (noted,))


@pytest.fixture(scope="module")
def now() -> Given:
    """The shipped policy, in which nothing of that name is a pool."""
    return given(load_policy([], environ={}, now_us=BEGIN, assume_deployed=True), shipped_books())


@pytest.fixture(params=["file", "database"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    """A ledger that has noted all these versions, with a row of each."""
    made: LedgerPlace = tmp_path / "ledger.sqlite"
    rows = [spent(version) for version in VERSIONS]
    if request.param == "file":
        fill_file(made, rows)
    else:
        made = PostgresUrl(request.getfixturevalue("postgres_url"))
        ensure_current(made)
        await fill(made, rows)
    for version in VERSIONS:
        await asyncio.to_thread(remember, made, in_force(version))
    return made


def export(place: LedgerPlace, now: Given) -> tuple[list[Row], Exported]:
    file = io.StringIO(newline="")
    done = write_focus(place, FocusAsked(BEGIN, BEGIN + 2 * HOUR), now, file)
    rows = read_export(file.getvalue())
    assert broken_rules(rows) == []
    return rows, done


def by_version(rows: list[Row]) -> dict[str | None, dict[str | None, Row]]:
    found: dict[str | None, dict[str | None, Row]] = defaultdict(dict)
    for each in rows:
        found[each["x_PolicyVersion"]][each["x_Resource"]] = each
    return found


def test_each_row_is_priced_by_what_its_pool_was_then(place: LedgerPlace, now: Given) -> None:
    """In one hour the pool moved to another GPU, was pinned to a region, got a second GPU, and its book was corrected:
    an hour of each costs what it cost by then, by GPU-hour, core-hour and GiB-hour.
    """
    rows, done = export(place, now)
    assert done == Exported(16, ())
    found = by_version(rows)
    prices = {
        version: tuple((each["ListUnitPrice"], each["PricingQuantity"]) for each in parts.values())
        for version, parts in found.items()
    }
    assert prices == {
        "l4": (("0.8", "1"), ("0.0473", "4"), ("0.008", "32")),
        "moved": (("1.1", "1"), ("0.0473", "4"), ("0.008", "32")),
        "pinned": (("1.2", "1"), ("0.07095", "4"), ("0.012", "32")),
        "edited": (("0.7", "1"), ("0.0473", "4"), ("0.008", "32")),
        "twice": (("0.8", "2"), ("0.0473", "8"), ("0.008", "32")),
        "tokens": (("0.016666666666667", "0.00012"),),
    }
    ids = {version: parts["gpu"]["SkuPriceId"] for version, parts in found.items() if "gpu" in parts}
    assert (ids["moved"], ids["pinned"]) == ("modal-2026-10:modal:gpu:a10", "modal-2026-10:modal:gpu:l4:us")
    assert {version: parts["gpu"]["RegionId"] for version, parts in found.items() if "gpu" in parts}["pinned"] == "us"
    assert found["twice"]["gpu"]["SkuPriceDetails"] == '{"CoreCount":8.0,"GpuCount":2,"MemorySize":32.0,"x_Gpu":"L4"}'
    assert (found["tokens"]["tokens"]["SkuId"], found["tokens"]["tokens"]["ProviderName"]) == (
        "tokens-inc:tokens:big",
        "tokens-inc",
    )


def test_another_book_than_the_version_s_is_taken_as_the_row_names_it(tmp_path: Path, now: Given) -> None:
    """As where one took effect before the policy was read again. Where it lacks the GPU, or nobody has that book any
    more, the amount stays whole; who sold it, a book that is there says.
    """
    path = tmp_path / "ledger.sqlite"
    moved = replace(spent("moved"), row_id="m:1:attempt", price_books="cloud-run-2026-08")
    books = [spent("l4", row_id=f"{book}:1:attempt", price_books=book) for book in ("runpod-flex", "gone")]
    fill_file(path, [*books, moved])
    for version in ("l4", "moved"):
        remember(path, in_force(version))
    rows, done = export(path, now)
    found = {each["x_PriceBooks"]: (each["x_Resource"], each["ProviderName"], each["PricingUnit"]) for each in rows}
    assert found == {
        "runpod-flex": ("gpu", "runpod", "GPU-Hours"),
        "gone": ("container", "unknown", "Hours"),
        "cloud-run-2026-08": ("container", "google", "Hours"),
    }
    [flex] = [each["ListUnitPrice"] for each in rows if each["x_PriceBooks"] == "runpod-flex"]
    assert flex == "0.684"  # 0.00019 a second
    assert done.not_known == ()


def test_what_nobody_noted_is_left_whole_and_said(tmp_path: Path, now: Given) -> None:
    """A pool of that name may have been anything then: no region, no parts, no SKU of a GPU, though the file of today
    has such a pool. Who sold it, the book says.
    """
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [spent("old", pool=SHIPPED)])
    rows, done = export(path, now)
    assert done == Exported(1, ("old",))
    [only] = rows
    empty = ("RegionId", "RegionName", "SkuPriceDetails")
    assert [only[column] for column in empty] == [None] * 3
    assert (only["x_Resource"], only["SkuId"]) == ("container", f"unknown:container:{SHIPPED}")
    assert (only["ProviderName"], only["ServiceName"]) == ("modal", "modal serverless")
    assert (only["ListUnitPrice"], only["PricingUnit"], only["ListCost"]) == ("1.2452", "Hours", "1.2452")
    divided, told = export(path, replace(now, version="old"))
    assert ([each["x_Resource"] for each in divided], told.not_known) == (["gpu", "cpu", "memory"], ())


@pytest.mark.parametrize("nusd", [7, 1_234_567_891, 10**15 + 1])
@pytest.mark.parametrize("hours", [3, 2_000, 999_999])
def test_a_mean_price_times_its_quantity_is_the_cost(tmp_path: Path, now: Given, nusd: int, hours: int) -> None:
    """To the nano-dollar, also where thousands of requests ran at once, whose hours are the quantity of a whole row."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [spent("old", amount_nusd=nusd, duration_us=hours * HOUR)])
    [only], _ = export(path, now)
    assert (only["PricingQuantity"], only["PricingUnit"]) == (str(hours), "Hours")


def test_an_amount_that_names_no_policy(tmp_path: Path, now: Given) -> None:
    """An adjustment to a bill of a pool that has no row of its own is of the pool as it is; no charge is guessed at."""
    path = tmp_path / "ledger.sqlite"
    adjusted = house_row("a:adjustment", RowKind.ADJUSTMENT, 5, BEGIN, SHIPPED)
    adjusted = replace(adjusted, outcome="reconciled:gpu", metered_nusd=5, policy_version="", price_books="")
    charged = row("b:1", 7, at_us=BEGIN, pool=SHIPPED, policy_version="", price_books="")
    fill_file(path, [adjusted, charged])
    rows, done = export(path, now)
    assert {each["x_Phase"]: each["SkuId"] for each in rows} == {
        "reconciled": "modal:gpu:l4",
        "busy": f"unknown:container:{SHIPPED}",
    }
    assert done.not_known == ()


def test_the_verb_names_the_versions_that_are_not_known(tmp_path: Path) -> None:
    """On the error stream, beside the rows, at most three of them, and what to do."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [spent(f"p{number}") for number in range(5)])
    words = ["focus", "--ledger", str(path), "--since", "2026-11-01", "--until", "2026-12-01"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0
    assert "no pools of policies p0, p1, p2 and 2 more: " in ran.stderr
    assert "give --policy the files" in ran.stderr
    assert len(read_export(ran.stdout)) == 5


async def answer(exchange: Exchange) -> None:
    await exchange.answer("200 OK", ANSWER)


async def test_a_running_endpoint_notes_what_its_pools_cost(tmp_path: Path) -> None:
    """A pool that moves to another GPU between two requests: both answers are priced by their own, over HTTP and by the
    command, which is given no policy files at all.
    """
    async with before_scripts(tmp_path, {"small": answer}, one_pool()) as endpoint:
        assert (await endpoint.chat(max_tokens=3)).status == 200
        files = one_pool(endpoints={"small": {"url": endpoint.upstream["small"].url, "always_on": 1}})
        files["pools"]["small"] = {**files["pools"]["small"], "extends": "qwen3-4b-fp16-t4", "cpu_cores": 2}
        endpoint.write_policy(files)
        endpoint.service.reloader.check_once()
        assert (await endpoint.chat(max_tokens=3)).status == 200
        await endpoint.requests(2)
        async with asyncio.timeout(30):
            while len(await asyncio.to_thread(policy_versions, endpoint.ledger, 9)) < 2:
                pass
        reply = await endpoint.ask("GET", "/v1/focus?since=2000-01-01&until=2100-01-01", "ops")
        words = ["focus", "--ledger", str(endpoint.ledger), "--since", "2000-01-01", "--until", "2100-01-01"]
        printed = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert (printed.stdout, printed.stderr) == (reply.body.decode(), "")
    rows = [each for each in read_export(reply.body.decode()) if each["x_Phase"] == "busy"]
    assert broken_rules(rows) == []
    assert {(each["x_Gpu"], each["SkuId"], each["ListUnitPrice"]) for each in rows if each["x_Resource"] == "gpu"} == {
        ("A10", "modal:gpu:a10", "1.1"),
        ("T4", "modal:gpu:t4", "0.59"),
    }
    details = {each["x_Gpu"]: json.loads(each["SkuPriceDetails"] or "{}")["CoreCount"] for each in rows}
    assert details == {"A10": 4.0, "T4": 2.0}
