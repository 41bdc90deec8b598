"""Modal's billing report against the fake control plane: what is asked, how lines are taken, what errors say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpclib
import modal
import pytest
from typer.testing import CliRunner

from pools.modal.billing import SETTLED_AFTER_US, modal_bill
from pools.modal.errors import ModalTrouble
from pricing.ledger.rows import RowKind
from pricing.prices.resources import Resource
from router.cli.main import app
from support.example_ledger import L4 as POOL
from support.modal_control_plane import FakeModal, control_plane
from support.money import house_row
from support.shared_ledger import fill_file

HOUR = 3_600
BEGIN = 1_793_491_200  # 2026-11-01
DAY = (BEGIN * 10**6, (BEGIN + 24 * HOUR) * 10**6)
LATER = DAY[1] + SETTLED_AFTER_US
L4 = {"L4": "0.8", "CPU": "0.1892", "Memory": "0.256"}


@pytest.fixture
def fake() -> FakeModal:
    return FakeModal()


@pytest.fixture
def client(fake: FakeModal) -> Iterator[modal.Client]:
    with control_plane(fake) as connected:
        yield connected


def pool_of(name: str, tags: Mapping[str, str]) -> str | None:
    return tags.get("pool") or {"sluice-l4": "l4"}.get(name)


async def test_lines_are_taken_by_pool_hour_and_resource(fake: FakeModal, client: modal.Client) -> None:
    """An App is its pool by its tag or its name; one that is no pool of ours is kept apart, by its name."""
    fake.bill("sluice-l4", BEGIN, L4)
    fake.bill("anything", BEGIN + HOUR, {"A10G": "1.1000000004", "A100_80GB": "0.1"}, pool="a10")
    fake.bill("notebooks", BEGIN + HOUR, {"CPU": "3"})
    bill = await modal_bill(pool_of, *DAY, LATER, client)
    assert bill.amounts == {
        ("l4", BEGIN * 10**6): {
            Resource.GPU: 800_000_000,
            Resource.CPU: 189_200_000,
            Resource.MEMORY: 256_000_000,
        },
        ("a10", (BEGIN + HOUR) * 10**6): {Resource.GPU: 1_200_000_000},
    }
    assert bill.unknown == {"notebooks": 3_000_000_000}
    assert (bill.since_us, bill.until_us) == (BEGIN * 10**6, (BEGIN + 2 * HOUR) * 10**6)


async def test_what_is_asked(fake: FakeModal, client: modal.Client) -> None:
    """Hours with every tag, in UTC, of the window alone."""
    await modal_bill(pool_of, *DAY, LATER, client)
    [asked] = fake.asked("WorkspaceBillingReport")
    assert (asked.resolution, list(asked.tag_names)) == ("h", ["*"])
    assert (asked.start_timestamp.seconds, asked.end_timestamp.seconds) == (BEGIN, BEGIN + 24 * HOUR)


async def test_hours_that_may_still_grow_are_left_for_later(fake: FakeModal, client: modal.Client) -> None:
    """The report lags: what ended less than two hours ago is not taken, and a window of nothing else asks nothing."""
    for hour in range(4):
        fake.bill("sluice-l4", BEGIN + hour * HOUR, L4)
    now_us = (BEGIN + 4 * HOUR + 1_800) * 10**6
    bill = await modal_bill(pool_of, *DAY, now_us, client)
    assert sorted(at_us // 10**6 - BEGIN for _, at_us in bill.amounts) == [0, HOUR]
    assert bill.until_us == (BEGIN + 2 * HOUR) * 10**6
    empty = await modal_bill(pool_of, DAY[0] + 3 * HOUR * 10**6, DAY[1], now_us, client)
    assert (empty.amounts, len(fake.asked("WorkspaceBillingReport"))) == ({}, 1)


async def test_cost_that_no_resource_names_is_kept(fake: FakeModal, client: modal.Client) -> None:
    """The rest of a line beside its resources, or a line without any."""
    fake.bill("sluice-l4", BEGIN, {"CPU": "0.1"}, cost="0.15")
    fake.bill("sluice-l4", BEGIN + HOUR, {}, cost="0.7")
    bill = await modal_bill(pool_of, *DAY, LATER, client)
    assert list(bill.amounts.values()) == [
        {Resource.CPU: 100_000_000, Resource.OTHER: 50_000_000},
        {Resource.CONTAINER: 700_000_000},
    ]


async def test_only_our_environment_is_ours(fake: FakeModal, client: modal.Client) -> None:
    """One file deployed as staging and as production makes Apps of the same names and tags in both."""
    fake.bill("sluice-l4", BEGIN, L4, pool="l4")
    fake.bill("sluice-l4", BEGIN, {"L4": "5"}, pool="l4")
    fake.billed[-1].environment_name = "staging"
    both = await modal_bill(pool_of, *DAY, LATER, client)
    assert both.total_nusd == 6_245_200_000
    ours = await modal_bill(pool_of, *DAY, LATER, client, environment="main")
    assert (ours.total_nusd, ours.unknown) == (1_245_200_000, {"sluice-l4 in environment staging": 5_000_000_000})


async def test_an_interval_that_is_no_hour_is_refused(fake: FakeModal, client: modal.Client) -> None:
    """It would be compared with another hour of the ledger."""
    fake.bill("sluice-l4", BEGIN + 900, L4)
    with pytest.raises(ModalTrouble, match="begins no hour of UTC"):
        await modal_bill(pool_of, *DAY, LATER, client)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (grpclib.Status.UNAUTHENTICATED, "set MODAL_TOKEN_ID"),
        (grpclib.Status.PERMISSION_DENIED, "Team and Enterprise plans.*--bill"),
        (grpclib.Status.RESOURCE_EXHAUSTED, "ask again in a minute"),
        (grpclib.Status.INVALID_ARGUMENT, "as ordered"),
    ],
)
async def test_errors_say_what_to_do(fake: FakeModal, client: modal.Client, status: Any, said: str) -> None:
    """Each in one sentence, without the SDK's traceback."""
    fake.fail("WorkspaceBillingReport", status)
    with pytest.raises(ModalTrouble, match=said):
        await modal_bill(pool_of, *DAY, LATER, client)


async def test_a_report_that_does_not_come_ends(fake: FakeModal, client: modal.Client) -> None:
    """After the time that it was given, with what to do."""
    fake.late_s["WorkspaceBillingReport"] = 30
    with pytest.raises(ModalTrouble, match="ask for fewer days"):
        await modal_bill(pool_of, *DAY, LATER, client, timeout_s=0.3)


def test_the_verb_asks_modal(
    fake: FakeModal, client: modal.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the environment's token; Apps are pools by their tag, and the rest is that of a CSV."""
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-fake")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-fake")
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
    at_s = int(begin.timestamp())
    fill_file(tmp_path / "ledger.sqlite", [house_row("i", RowKind.IDLE, 1_245_200_000, at_s * 10**6, POOL)])
    fake.bill("any", at_s, {**L4, "Memory": "0.356"}, pool=POOL)
    words = ["reconcile", "--modal", "--since", "1d", "--ledger", str(tmp_path / "ledger.sqlite"), "--format", "json"]
    modal.Client._set_env_client(client)
    try:
        document = json.loads(CliRunner().invoke(app, words).stdout)
        fake.fail("WorkspaceBillingReport", grpclib.Status.PERMISSION_DENIED)
        refused = CliRunner().invoke(app, words)
    finally:
        modal.Client._set_env_client(None)
    assert (document["ledger_nusd"], document["bill_nusd"]) == (1_245_200_000, 1_345_200_000)
    assert [(each["cause"], each["nusd"]) for each in document["causes"]] == [("memory_above_request", 100_000_000)]
    assert isinstance(refused.exception, ModalTrouble)
