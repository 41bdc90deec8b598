"""`GET /budgets`: caps and rate limits as they stand, page by page, shaped like OpenAI's lists.

A list is all caps in the order of the files, then all rate limits. Only what a page shows is asked of the store: with
tens of thousands of caps a page costs what its own entries cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Request, Response

from policies.policy import Policy
from pricing.budgets.caps import Cap, CapTable, Scope, ScopeKind, parse_scope
from pricing.budgets.store import BudgetStore, CapStatus, RateStatus
from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.errors import ApiError
from router.http.parameters import check_parameters
from router.http.replies import reply, viewer_of
from router.inbound.callers import Caller
from router.service.service import Service

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 1_000
_PARAMETERS: Final = ("limit", "after", "tenant", "scope")
_RATES: Final = "rates:"  # before a scope: the id of its rate limits, which no cap is called


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list has: caps, and scopes with rate limits, which are one entry each."""

    caps: Sequence[Cap]
    limited: Sequence[Scope]

    def after(self, last: str | None, table: CapTable) -> Listed:
        """What follows an entry. Raises ApiError for one that is not in the list."""
        if last is None:
            return self
        found = table.find(last)
        try:
            if last.startswith(_RATES):
                scope = parse_scope(last.removeprefix(_RATES))
                return Listed((), self.limited[self.limited.index(scope) + 1 :])
            place = next(number for number, cap in enumerate(self.caps) if cap is found)
        except (ValueError, StopIteration):
            text = f"'after': this list has no '{last}'; begin again without it"
            raise ApiError("invalid_value", text, param="after") from None
        return Listed(self.caps[place + 1 :], self.limited)

    def first(self, limit: int) -> Listed:
        caps = self.caps[:limit]
        return Listed(caps, self.limited[: limit - len(caps)])

    def __len__(self) -> int:
        return len(self.caps) + len(self.limited)


def listed(table: CapTable, scopes: Sequence[Scope] | None) -> Listed:
    """All that a table has, or what it has for some scopes."""
    if scopes is None:
        return Listed(table.caps, tuple(table.limits))
    caps = [cap for scope in scopes for cap in table.by_scope.get(scope, ())]
    return Listed(caps, [scope for scope in scopes if scope in table.limits])


def scopes_shown(viewer: Caller, policy: Policy, tenant: str | None, scope: Scope | None) -> list[Scope] | None:
    """What a viewer may see and asks for; None is everything.

    A tenant sees the caps and limits that are its own; how much others spend of a shared one is not its business.
    """
    own = [Scope(ScopeKind.TENANT, viewer.tenant), Scope(ScopeKind.KEY, viewer.key_id)]
    filters = [] if viewer.is_admin else [own]
    if tenant is not None:
        keys = policy.tenants[tenant].keys if tenant in policy.tenants else ()
        filters.append([Scope(ScopeKind.TENANT, tenant), *(Scope(ScopeKind.KEY, key.id) for key in keys)])
    if scope is not None:
        filters.append([scope])
    if not filters:
        return None
    return [one for one in filters[0] if all(one in others for others in filters[1:])]


async def page_of(store: BudgetStore, table: CapTable, page: Listed) -> tuple[list[CapStatus], list[RateStatus]]:
    """The entries of a page as they stand. Raises StoreUnavailable.

    The first and the last scope of a page may have more caps than are on it.
    """
    wanted = {cap.label for cap in page.caps}
    scopes = tuple(dict.fromkeys(cap.scope for cap in page.caps))
    by_label = {status.cap: status for status in await store.statuses(scopes) if status.cap in wanted}
    rates = await store.rate_statuses(page.limited) if page.limited else []
    return [by_label[cap.label] for cap in page.caps if cap.label in by_label], rates


def add_budget_routes(app: FastAPI, service: Service) -> None:
    @app.get("/budgets")
    async def budgets(
        request: Request,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        tenant: str | None = None,
        scope: str | None = None,
    ) -> Response:
        viewer, policy = viewer_of(service, request), service.policy
        check_parameters(request, _PARAMETERS)
        if not 1 <= limit <= LARGEST_LIMIT:
            raise ApiError("invalid_value", f"'limit' is a number from 1 to {LARGEST_LIMIT:,}", param="limit")
        shown = scopes_shown(viewer, policy, tenant, _scope(scope))
        rest = listed(policy.caps, shown).after(after, policy.caps)
        page = rest.first(limit)
        caps, rates = await page_of(service.store, policy.caps, page)
        ids = [cap.label for cap in page.caps] + [f"{_RATES}{scope}" for scope in page.limited]
        return reply(
            {
                "object": "list",
                "data": [cap_json(one) for one in caps],
                "limits": [limit_json(one) for one in rates],
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
                "has_more": len(rest) > len(page),
            }
        )


def _scope(text: str | None) -> Scope | None:
    try:
        return None if text is None else parse_scope(text)
    except ValueError as error:
        raise ApiError("invalid_value", f"'scope': {error}", param="scope") from None


def cap_json(status: CapStatus) -> dict[str, Any]:
    def usd(nusd: int | None) -> float | None:
        return None if nusd is None else usd_number(nusd)

    return {
        "object": "budget",
        "id": status.cap,
        "cap": status.cap,
        "scope": str(status.scope),
        "window": status.window,
        "amount_usd": "unlimited" if status.amount_nusd is None else usd(status.amount_nusd),
        "spent_usd": usd(status.spent_nusd),
        "held_usd": usd(status.held_nusd),
        "left_usd": "unlimited" if status.left_nusd is None else usd(status.left_nusd),
        "warned": status.warned,
        "lowering_tier": status.lowering,
        "resets_at": None if status.resets_us is None else status.resets_us / US_PER_S,
    }


def limit_json(status: RateStatus) -> dict[str, Any]:
    return {
        "object": "rate_limit",
        "id": f"{_RATES}{status.scope}",
        "scope": str(status.scope),
        "dimension": status.dimension,
        "limit": status.limit,
        "used": status.used,
        "remaining": max(0, status.limit - status.used),
        "resets_in_s": None if status.resets_s is None else round(status.resets_s, 3),
    }
