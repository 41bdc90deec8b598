"""One suite over both kinds of ledger: the newest requests page by page, and what pools did lately."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.recent import Lately, Recent, pools_lately, recent
from pricing.ledger.rows import House, LedgerRow, RequestRow, RowKind
from pricing.ledger.upgrade import ensure_current
from support.shared_ledger import empty_database, empty_file, fill, fill_file

HOUR = 3_600_000_000
Write = Callable[[list[LedgerRow], list[RequestRow]], None]


@pytest.fixture(params=["file", "database"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[LedgerPlace, Write]]:
    """An empty ledger, and what empties it and writes into it."""
    if request.param == "file":
        path = tmp_path / "ledger.sqlite"
        fill_file(path, ())

        def write(rows: list[LedgerRow], requests: list[RequestRow]) -> None:
            empty_file(path)
            fill_file(path, rows, requests)

        yield path, write
        return
    url = PostgresUrl(request.getfixturevalue("postgres_url"))
    ensure_current(url)

    def deliver(rows: list[LedgerRow], requests: list[RequestRow]) -> None:
        empty_database(url)
        asyncio.run(fill(url, rows, requests))

    yield url, deliver


def summary(number: int, at_us: int, tenant: str = "a", attempts: int = 1) -> RequestRow:
    return RequestRow(
        request_id=f"r{number:03}",
        at_us=at_us,
        tenant=tenant,
        key_id=f"{tenant}-key",
        endpoint="/v1/completions",
        model_asked="chat",
        request_class="chat",
        tier_asked="economy",
        tier_served="premium" if number % 2 else None,
        pool="mid" if attempts else None,
        outcome="served",
        status=200,
        error_code=None,
        attempts=attempts,
        stream=bool(number % 2),
        duration_us=5,
        prompt_tokens=1,
        completion_tokens=None,
        baseline_nusd=None,
        policy_version="p",
        decisions_json=b"[]",
    )


def row(request: RequestRow | None, attempt: int, amount_nusd: int, **more: object) -> LedgerRow:
    kind, account = more.pop("kind", RowKind.ATTEMPT), more.pop("account", request.tenant if request else House.IDLE)
    request_id = request.request_id if request else None
    return LedgerRow(
        **{  # type: ignore[arg-type] # fields by name
            "row_id": f"{request_id}:{attempt}:{kind}:{account}:{more.get('at_us', 0)}",
            "at_us": request.at_us if request else 0,
            "kind": kind,
            "account": account,
            "amount_nusd": amount_nusd,
            "metered_nusd": amount_nusd,
            "pool": "mid",
            "gpu": "L4",
            "model": "m",
            "policy_version": "p",
            "price_books": "b",
            "tenant": request.tenant if request else None,
            "request_id": request_id,
            "attempt": attempt,
            "outcome": "answered",
            **more,
        }
    )


def pages(place: LedgerPlace, size: int, tenant: str | None, *, moved: bool) -> list[Recent]:
    """All pages one after another, as a client follows them."""
    found: list[Recent] = []
    while page := recent(place, size, tenant=tenant, after=found[-1].request_id if found else None, moved=moved):
        assert len(page) <= size
        found += page
    return found


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    asked=st.lists(st.tuples(st.integers(0, 30 * HOUR), st.sampled_from("abc"), st.integers(0, 3)), max_size=25),
    size=st.integers(1, 6),
    tenant=st.none() | st.sampled_from("abz"),
    moved=st.booleans(),
)
def test_pages_are_every_request_once_newest_first(
    ledger: tuple[LedgerPlace, Write],
    asked: list[tuple[int, str, int]],
    size: int,
    tenant: str | None,
    moved: bool,
) -> None:
    """Whatever came when, of whom, with how many attempts: nothing is missed, repeated or shown to another tenant."""
    place, write = ledger
    requests = [summary(number, *one) for number, one in enumerate(asked)]
    write([], requests)
    meant = [one for one in requests if tenant in (None, one.tenant) and (one.attempts > 1 or not moved)]
    meant.sort(key=lambda one: (one.at_us, one.request_id), reverse=True)
    assert [one.request_id for one in pages(place, size, tenant, moved=moved)] == [one.request_id for one in meant]


def test_a_request_comes_with_its_attempts_and_what_its_tenant_paid(ledger: tuple[LedgerPlace, Write]) -> None:
    """In order; rows that are no attempt show in the amount alone, and what the house paid in neither."""
    place, write = ledger
    one = summary(1, 7, attempts=2)
    rows = [
        row(one, 2, 20),
        row(one, 1, 10, outcome="timeout", pool="slow"),
        row(one, 2, 5, kind=RowKind.LATE),
        row(one, 2, 3, kind=RowKind.OVERRUN, account=House.OVERRUN),
    ]
    write(rows, [one])
    [found] = recent(place, 10)
    assert [(each.number, each.pool, each.outcome) for each in found.attempts] == [
        (1, "slow", "timeout"),
        (2, "mid", "answered"),
    ]
    assert found.charged_nusd == 35
    assert (found.tier, found.stream, found.completion_tokens) == ("premium", True, None)


def test_what_pools_did_lately(ledger: tuple[LedgerPlace, Write]) -> None:
    """Amounts by what container time was for, within the window; the median first-token time is one that was."""
    place, write = ledger
    requests = [summary(number, 100 + number) for number in range(5)]
    rows = [row(one, 1, 10, ttft_us=ttft) for one, ttft in zip(requests, (40, 10, None, 30, 20), strict=True)]
    rows.append(row(requests[0], 2, 4, account=House.FAILED))
    for account, kind, nusd in (
        (House.BOOT, RowKind.BOOT, 30),
        (House.IDLE, RowKind.IDLE, 20),
        (House.ADJUSTMENT, RowKind.ADJUSTMENT, -4),
    ):
        rows += [row(None, 0, nusd, account=account, kind=kind, at_us=at_us) for at_us in (99, 100)]
    rows.append(row(None, 0, 7, pool="idle", at_us=150, kind=RowKind.IDLE))
    write(rows, requests)
    found = pools_lately(place, 100, 200)
    assert found == {
        "mid": Lately(busy_nusd=54, boot_nusd=30, idle_nusd=20, adjustment_nusd=-4, ttft_p50_us=20),
        "idle": Lately(idle_nusd=7),
    }
    assert found["mid"].utilisation == 0.54
    assert found["idle"].utilisation == 0
    assert Lately().utilisation is None
    assert pools_lately(place, 200, 300) == {}
