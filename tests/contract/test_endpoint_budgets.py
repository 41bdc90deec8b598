"""`GET /budgets`: pages of what the viewer may see, and nothing asked of the store beyond a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pricing.budgets.caps import CapTable, RateLimits, Scope, parse_scope
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import CapStatus
from pricing.clock import ManualClock
from router.http.budgets import listed, page_of
from support.endpoint import Endpoint, Policy, before_simulated, one_pool
from support.fragile_store import FragileStore
from support.money import UTC, cap

CAPS = ["acme/day", "key:acme-key/day", "globex/day", "pool:small/day"]
RATES = ["rates:tenant:acme", "rates:key:acme-key", "rates:tenant:globex"]


def files() -> Policy:
    """Caps of two tenants, a key and a pool; limits of both tenants and of the key."""
    made = one_pool(caps=[{"name": "day", "amount_usd": 3, "window": "24h", "scope": "pool:small"}])
    acme, globex = made["tenants"]["acme"], made["tenants"]["globex"]
    acme["caps"] = [
        {"name": "day", "amount_usd": 1, "window": "24h"},
        {"name": "day", "amount_usd": 1, "window": "24h", "scope": "key:acme-key"},
    ]
    globex["caps"] = [{"name": "day", "amount_usd": 2, "window": "24h"}]
    acme["limits"] = globex["limits"] = {"requests_per_minute": 60, "in_flight": 5}
    acme["keys"][0]["limits"] = {"in_flight": 3}
    return made


async def asked(endpoint: Endpoint, key: str, **query: object) -> dict[str, Any]:
    answer = await endpoint.ask("GET", f"/budgets?{urlencode(query)}", key)
    assert answer.status == 200, answer.body
    page: dict[str, Any] = answer.json
    return page


def ids(page: dict[str, Any]) -> list[str]:
    """Of a page's entries; the limits of a scope are one entry."""
    return list(dict.fromkeys(one["id"] for one in (*page["data"], *page["limits"])))


async def test_pages_hold_every_entry_once(tmp_path: Path) -> None:
    """Caps first, then limits, in the order of the files, whatever the size of a page; the last one says so."""
    async with before_simulated(tmp_path, files(), awake=("small",)) as endpoint:
        whole = await asked(endpoint, "ops")
        for limit in (1, 3, 4, 7):
            page, found = await asked(endpoint, "ops", limit=limit), list[str]()
            while page["has_more"]:
                assert (ids(page)[0], ids(page)[-1], len(ids(page))) == (page["first_id"], page["last_id"], limit)
                found += ids(page)
                page = await asked(endpoint, "ops", limit=limit, after=page["last_id"])
            assert found + ids(page) == CAPS + RATES
        beyond = await asked(endpoint, "ops", after=RATES[-1])
    assert (ids(whole), whole["has_more"], len(whole["limits"])) == (CAPS + RATES, False, 5)
    assert (ids(beyond), beyond["first_id"], beyond["last_id"], beyond["has_more"]) == ([], None, None, False)


async def test_filters_narrow_what_a_key_may_see(tmp_path: Path) -> None:
    """By tenant, with its keys, and by scope; no filter shows a tenant what is not its own."""
    async with before_simulated(tmp_path, files(), awake=("small",)) as endpoint:
        shown = {
            (key, *query.items()): ids(await asked(endpoint, key, **query))
            for key, query in (
                ("ops", {"tenant": "acme"}),
                ("ops", {"scope": "pool:small"}),
                ("ops", {"tenant": "acme", "scope": "key:acme-key"}),
                ("ops", {"tenant": "globex", "scope": "key:acme-key"}),
                ("ops", {"tenant": "nobody"}),
                ("acme", {}),
                ("acme", {"tenant": "globex"}),
                ("acme", {"scope": "pool:small"}),
                ("acme", {"scope": "tenant:acme"}),
            )
        }
    assert list(shown.values()) == [
        [*CAPS[:2], *RATES[:2]],
        ["pool:small/day"],
        ["key:acme-key/day", "rates:key:acme-key"],
        [],
        [],
        [*CAPS[:2], *RATES[:2]],
        [],
        [],
        ["acme/day", "rates:tenant:acme"],
    ]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after": "acme/none"}, "after"),
        ({"after": "rates:tenant:none"}, "after"),
        ({"after": "rates:acme"}, "after"),
        ({"after": "globex/day", "tenant": "acme"}, "after"),
        ({"scope": "person:acme"}, "scope"),
    ],
)
async def test_mistakes_are_named(tmp_path: Path, query: dict[str, object], param: str) -> None:
    """400 with the parameter, and never an answer to another question."""
    async with before_simulated(tmp_path, files(), awake=("small",)) as endpoint:
        answer = await endpoint.ask("GET", f"/budgets?{urlencode(query)}", "ops")
    assert (answer.status, answer.code, answer.json["error"]["param"]) == (400, "invalid_value", param)


class Asked(FragileStore):
    """Keeps what it was asked for."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self.scopes: list[Sequence[Scope] | None] = []

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        self.scopes.append(scopes)
        return await super().statuses(scopes)


async def test_a_page_asks_for_its_own_entries_alone(tmp_path: Path) -> None:
    """Of ten thousand tenants, the store is asked for those on the page; caps of one scope may stand on two pages."""
    names = [f"tenant:t{number}" for number in range(10_000)]
    table = tuple(cap(10, scope=name, name=which) for name in names for which in ("day", "week", "month"))
    limits = {parse_scope(names[0]): RateLimits(1)}
    caps = CapTable(table, UTC, limits)
    store = Asked(SqliteStore(tmp_path / "ledger.sqlite", ManualClock(), caps))
    page = listed(caps, None).after("t4999/week", caps).first(3)
    shown, rates = await page_of(store, caps, page)
    assert [status.cap for status in shown] == ["t4999/month", "t5000/day", "t5000/week"]
    assert store.scopes == [(parse_scope("tenant:t4999"), parse_scope("tenant:t5000"))]
    assert rates == []
    await store.aclose()
