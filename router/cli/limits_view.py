"""Rate limits as `sluice budget` shows them: from the policy's files, or with their use from a running endpoint.

What was asked in the last minute is known to the endpoint alone; files say what the limits are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from rich import box
from rich.table import Table

from pricing.budgets.caps import CapTable, Dimension, Scope, parse_scope
from pricing.budgets.store import CapStatus
from pricing.clock import US_PER_S
from pricing.money import parse_usd
from router.cli.remote import get_json

PAGE: Final = 1_000  # the most that an endpoint answers at once


@dataclass(frozen=True, slots=True)
class LimitLine:
    """`used` and `resets_s` None: not known here."""

    scope: Scope
    dimension: str
    limit: int
    used: int | None = None
    resets_s: float | None = None


def limits_of(caps: CapTable) -> list[LimitLine]:
    """Every limit of a policy."""
    return list(_lines(caps))


def _lines(caps: CapTable) -> Iterable[LimitLine]:
    for scope, limits in caps.limits.items():
        for dimension, limit in (
            (Dimension.REQUESTS, limits.requests_per_minute),
            (Dimension.TOKENS, limits.tokens_per_minute),
            (Dimension.IN_FLIGHT, limits.in_flight),
        ):
            if limit is not None:
                yield LimitLine(scope, dimension, limit)


def fetch_budgets(url: str, key: str | None) -> dict[str, Any]:
    """`GET /budgets` of an endpoint, all its pages. Raises EndpointTrouble."""
    whole: dict[str, Any] = {"object": "list", "data": [], "limits": []}
    query: dict[str, str | int] = {"limit": PAGE}
    while True:
        page = get_json(url, f"/budgets?{urlencode(query)}", key)
        whole["data"] += page["data"]
        whole["limits"] += page["limits"]
        if not page["has_more"]:
            return whole
        query["after"] = page["last_id"]


def read_budgets(document: Mapping[str, Any]) -> tuple[list[CapStatus], list[LimitLine]]:
    """What `GET /budgets` answered."""
    limits = [
        LimitLine(parse_scope(one["scope"]), one["dimension"], one["limit"], one["used"], one["resets_in_s"])
        for one in document["limits"]
    ]
    return [_status(one) for one in document["data"]], limits


def _status(cap: Mapping[str, Any]) -> CapStatus:
    def nusd(name: str) -> int | None:
        return None if cap[name] == "unlimited" else parse_usd(cap[name])

    return CapStatus(
        cap=cap["cap"],
        scope=parse_scope(cap["scope"]),
        window=cap["window"],
        amount_nusd=nusd("amount_usd"),
        spent_nusd=parse_usd(cap["spent_usd"]),
        held_nusd=parse_usd(cap["held_usd"]),
        left_nusd=nusd("left_usd"),
        warned=cap["warned"],
        lowering=cap["lowering_tier"],
        resets_us=None if cap["resets_at"] is None else round(cap["resets_at"] * US_PER_S),
    )


def limits_table(limits: Sequence[LimitLine]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rate limit", overflow="fold")
    table.add_column("of")
    for name in ("limit", "used", "free in"):
        table.add_column(name, justify="right")
    for one in limits:
        of = "in flight" if one.dimension == Dimension.IN_FLIGHT else f"{one.dimension} a minute"
        used = "" if one.used is None else f"{one.used:,}"
        free = "" if not one.resets_s else f"{one.resets_s:.0f} s"
        table.add_row(str(one.scope), of, f"{one.limit:,}", used, free)
    return table
