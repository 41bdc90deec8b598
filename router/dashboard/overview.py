"""What the first page shows: asked of the public API at once, and arranged for its template.

A route that does not answer costs its own panel, which says why, and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from pricing.clock import US_PER_S
from pricing.ledger.rows import House
from router.dashboard.inside import Answer, PublicApi, Visitor
from router.dashboard.patience import Patience, Question
from router.dashboard.spend import BY, Cap, Chart, Table, caps_of, requests_chart, spend_chart, tables_of

FEED_ROWS: Final = 25
MOVED_ROWS: Final = 8
CAPS_READ: Final = 1_000  # of which the fullest are shown
CAPS_SHOWN: Final = 100
HOURS: Final = 24
SUMS_KEPT_S: Final = 5.0  # real seconds for which one answer serves every look at it
POOLS_KEPT_S: Final = 1.0
CAPS_KEPT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Tiles:
    """The numbers at the top. Nano-dollars; shares of one, None where there is nothing to divide by."""

    hour_nusd: int
    day_nusd: int
    month_nusd: int
    containers_nusd: int  # of the month: boot, idle and adjustments
    adjusted: bool  # whether any of it is an adjustment
    saving_nusd: int | None
    saving_share: float | None
    baseline: str
    requests: int  # of the day, as all below
    served: int
    fell_back: int
    failed: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Attempts of the day that failed at one pool in one way, and what they cost whom."""

    pool: str
    failure: str
    attempts: int
    charged_nusd: int
    house_nusd: int


@dataclass(frozen=True, slots=True)
class Overview:
    """`troubles` says by panel why the API did not answer, where it did not; that panel's values are empty then."""

    at: str
    month: str
    key: Mapping[str, Any]
    health: Mapping[str, Any]
    admin: bool
    replica: str | None = None  # which of several this is, where the viewer may know
    tiles: Tiles | None = None
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    caps: tuple[Cap, ...] = ()
    caps_read: int = 0
    more_caps: bool = False  # than were read
    pools: tuple[Mapping[str, Any], ...] = ()
    undeployed: int = 0
    feed: tuple[Mapping[str, Any], ...] = ()
    failures: tuple[Failure, ...] = ()
    moved: tuple[Mapping[str, Any], ...] = ()
    policy: Mapping[str, Any] | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)


async def overview(
    api: PublicApi, patience: Patience, visitor: Visitor, key: Mapping[str, Any], now_us: int
) -> Overview:
    """`key` is what `/v1/key` said of the visitor, `now_us` the endpoint's time."""
    now = datetime.fromtimestamp(now_us // US_PER_S, UTC)
    answers = await _ask(api, patience, visitor, key, _day(now), _month(now))
    return await asyncio.to_thread(_arranged, key, now, answers)  # thousands of tenants are thousands of lines


def _day(now: datetime) -> str:
    return now.strftime("%Y-%m-%d")


def _month(now: datetime) -> str:
    return now.strftime("%Y-%m-01")


def _arranged(key: Mapping[str, Any], now: datetime, answers: Mapping[str, Answer]) -> Overview:
    admin = "admin" in key["rights"]
    reports = [answers[name] for name in ("hour", "day", "month")]
    caps = caps_of(answers["budgets"].json) if answers["budgets"].ok else []
    known = all(each.ok for each in reports)
    found = [each.json for each in reports] if known else []
    pools = answers["pools"].json["data"] if answers["pools"].ok else []
    drawn = (("costs", partial(spend_chart, everything=admin)), ("usage", requests_chart))
    return Overview(
        at=now.strftime("%Y-%m-%d %H:%M:%S"),
        month=_month(now),
        key=key,
        health=answers["health"].json,
        admin=admin,
        replica=_replica(answers["health"].json),
        tiles=_tiles(*found, admin=admin) if known else None,
        tables=tuple(tables_of(found, caps, everything=admin)) if known else (),
        charts=tuple(chart(answers[name].json) for name, chart in drawn if answers[name].ok),
        caps=tuple(caps[:CAPS_SHOWN]),
        caps_read=len(caps),
        more_caps=len(caps) == CAPS_READ and answers["budgets"].json["has_more"],
        pools=tuple(pool for pool in pools if pool["state"] != "not_deployed"),
        undeployed=sum(pool["state"] == "not_deployed" for pool in pools),
        feed=tuple(answers["feed"].json["data"]) if answers["feed"].ok else (),
        failures=_failures(found[1]) if known else (),
        moved=tuple(answers["moved"].json["data"]) if answers["moved"].ok else (),
        policy=answers["policy"].json if admin and answers["policy"].ok else None,
        troubles=_troubles(answers),
    )


def _replica(health: Mapping[str, Any]) -> str | None:
    """None of a process that is the only one."""
    name: str | None = health.get("replica")
    return name if health.get("budget_store", {}).get("kind") == "redis" else None


def _troubles(answers: Mapping[str, Answer]) -> dict[str, str]:
    """By panel; the empty text where all is well."""
    found = dict.fromkeys(_PANELS.values(), "")
    return found | {_PANELS[name]: answer.trouble for name, answer in answers.items() if not answer.ok}


_PANELS: Final = {
    "health": "health",
    "hour": "spend",
    "day": "spend",
    "month": "spend",
    "budgets": "caps",
    "costs": "charts",
    "usage": "charts",
    "pools": "pools",
    "feed": "feed",
    "moved": "fallbacks",
    "policy": "policy",
}


async def _ask(
    api: PublicApi, patience: Patience, visitor: Visitor, key: Mapping[str, Any], day: str, month: str
) -> dict[str, Answer]:
    """Every route that the page reads, all at once; what adds up a ledger, with patience."""

    def added_up(path: str, kept_s: float, **query: object) -> Coroutine[Any, Any, Answer]:
        return patience.get(visitor, key, path, kept_s=kept_s, **query)

    by = ",".join(BY)
    windows: dict[str, Question] = {
        "hour": ("/v1/reports", {"by": by, "since": "1h"}),
        "day": ("/v1/reports", {"by": by, "since": day, "show": "money,failures"}),
        "month": ("/v1/reports", {"by": by, "since": month}),
    }
    # Together, or a day might show more than its month.
    spend = patience.together(visitor, key, tuple(windows.values()), kept_s=SUMS_KEPT_S)
    asked = {
        "health": api.get(visitor, "/health"),
        "budgets": added_up("/budgets", CAPS_KEPT_S, limit=CAPS_READ),
        "costs": added_up("/v1/costs", SUMS_KEPT_S, bucket_width="1h", limit=HOURS, group_by="line_item"),
        "usage": added_up("/v1/usage", SUMS_KEPT_S, bucket_width="1h", limit=HOURS),
        "pools": added_up("/v1/pools", POOLS_KEPT_S),
        "feed": api.get(visitor, "/v1/decisions", limit=FEED_ROWS),
        "moved": added_up("/v1/decisions", SUMS_KEPT_S, limit=MOVED_ROWS, moved="true"),
    }
    if "admin" in key["rights"]:
        asked["policy"] = api.get(visitor, "/v1/policy")
    spent, answers = await asyncio.gather(spend, asyncio.gather(*asked.values()))
    return {**dict(zip(windows, spent, strict=True)), **dict(zip(asked, answers, strict=True))}


def _tiles(hour: Mapping[str, Any], day: Mapping[str, Any], month: Mapping[str, Any], *, admin: bool) -> Tiles:
    """An admin's spend is the whole ledger, a tenant's what it was charged."""

    def spent_nusd(report: Mapping[str, Any]) -> int:
        nusd: int = report["ledger_nusd"] if admin else report["total"]["charged_nusd"]
        return nusd

    total = month["total"]
    return Tiles(
        hour_nusd=spent_nusd(hour),
        day_nusd=spent_nusd(day),
        month_nusd=spent_nusd(month),
        containers_nusd=sum(line["amount_nusd"] for line in month["separate"]),
        adjusted=any(line["account"] == House.ADJUSTMENT and line["amount_nusd"] for line in month["separate"]),
        saving_nusd=total["saving_nusd"],
        saving_share=total["saving_share"],
        baseline=month["baseline"],
        requests=day["total"]["requests"],
        served=day["total"]["served"],
        fell_back=day["total"]["fell_back"],
        failed=day["total"]["failed"],
    )


def _failures(day: Mapping[str, Any]) -> tuple[Failure, ...]:
    """By pool and failure class, the most frequent first."""
    sums: dict[tuple[str, str], tuple[int, int, int]] = {}
    for one in day["failures"]:
        attempts, charged, house = sums.get((one["pool"], one["failure"]), (0, 0, 0))
        sums[one["pool"], one["failure"]] = (
            attempts + one["attempts"],
            charged + one["charged_nusd"],
            house + one["house_nusd"],
        )
    found = [Failure(*names, *each) for names, each in sums.items()]
    return tuple(sorted(found, key=lambda each: (-each.attempts, each.pool, each.failure)))
