"""The routes that show what was spent: costs and usage, shaped like OpenAI's. An admin sees all rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from pricing.ledger.place import LedgerPlace
from pricing.reports.costs import PageQuery, costs, usage
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


async def _read(service: Service, page_of: PageOf, query: PageQuery) -> dict[str, Any]:
    try:
        return await asyncio.to_thread(page_of, service.settings.ledger, query, service.clock.wall_us())
    except ValueError as error:
        raise ApiError("invalid_value", str(error)) from None
