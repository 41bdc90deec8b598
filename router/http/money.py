"""The routes that show money: caps as they stand, costs and usage shaped like OpenAI's. An admin sees all rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from pricing.budgets.caps import Scope as CapScope
from pricing.budgets.caps import ScopeKind
from pricing.budgets.store import CapStatus, RateStatus
from pricing.clock import US_PER_S
from pricing.ledger.place import LedgerPlace
from pricing.money import usd_number
from pricing.reports.costs import PageQuery, costs, usage
from router.callers import Caller
from router.errors import ApiError
from router.http.replies import reply, viewer_of
from router.service import Service

PageOf = Callable[[LedgerPlace, PageQuery, int], dict[str, Any]]


def add_money_routes(app: FastAPI, service: Service) -> None:
    async def page(
        request: Request,
        start_time: int | None = None,
        end_time: int | None = None,
        bucket_width: str = "1d",
        group_by: Annotated[list[str] | None, Query()] = None,
        project_ids: Annotated[list[str] | None, Query()] = None,
        api_key_ids: Annotated[list[str] | None, Query()] = None,
        limit: int | None = None,
        page: str | None = None,
    ) -> Response:
        viewer = viewer_of(service, request)
        query = PageQuery(
            start_s=start_time,
            end_s=end_time,
            bucket_width=bucket_width,
            group_by=tuple(group_by or ()),
            limit=limit,
            page=page,
            project_ids=tuple(project_ids or ()),
            api_key_ids=tuple(api_key_ids or ()),
            tenant=None if viewer.is_admin else viewer.tenant,
        )
        page_of = costs if request.url.path.endswith("/costs") else usage
        return reply(await _read(service, page_of, query))

    for path in ("/v1/costs", "/v1/organization/costs", "/v1/usage", "/v1/organization/usage/completions"):
        app.add_api_route(path, page, methods=["GET"])

    @app.get("/budgets")
    async def budgets(request: Request) -> Response:
        viewer = viewer_of(service, request)
        caps = [_cap(one) for one in await service.store.statuses() if _may_see(viewer, one.scope)]
        limits = [_limit(one) for one in await service.store.rate_statuses() if _may_see(viewer, one.scope)]
        return reply({"object": "list", "data": caps, "limits": limits})


async def _read(service: Service, page_of: PageOf, query: PageQuery) -> dict[str, Any]:
    try:
        return await asyncio.to_thread(page_of, service.settings.ledger, query, service.clock.wall_us())
    except ValueError as error:
        raise ApiError("invalid_value", str(error)) from None


def _may_see(viewer: Caller, scope: CapScope) -> bool:
    """A tenant sees the caps and limits that are its own; how much others spend of a shared one is not its business."""
    own = {ScopeKind.TENANT: viewer.tenant, ScopeKind.KEY: viewer.key_id}
    return viewer.is_admin or own.get(scope.kind) == scope.value


def _cap(status: CapStatus) -> dict[str, Any]:
    def usd(nusd: int | None) -> float | None:
        return None if nusd is None else usd_number(nusd)

    return {
        "object": "budget",
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


def _limit(status: RateStatus) -> dict[str, Any]:
    return {
        "object": "rate_limit",
        "scope": str(status.scope),
        "dimension": status.dimension,
        "limit": status.limit,
        "used": status.used,
        "remaining": max(0, status.limit - status.used),
        "resets_in_s": None if status.resets_s is None else round(status.resets_s, 3),
    }
