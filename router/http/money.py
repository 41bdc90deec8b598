"""The routes that show what was spent: costs and usage, shaped like OpenAI's. An admin sees all rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request, Response
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from pricing.ledger.place import LedgerPlace
from pricing.reports.costs import PageQuery, costs, usage
from router.errors import ApiError
from router.http.parameters import check_parameters, several, several_schema
from router.http.replies import reply, viewer_of
from router.inbound.callers import Caller
from router.service.service import Service


def _seconds(value: str) -> int:
    """Raises PydanticCustomError, whose message says what instants are here."""
    try:
        return int(value)
    except ValueError:
        raise PydanticCustomError("seconds", "not whole seconds since 1970, such as 1790000000") from None


Instant = Annotated[int, BeforeValidator(_seconds)]
PageOf = Callable[[LedgerPlace, PageQuery, int], dict[str, Any]]
_LISTS: Final = ("group_by", "project_ids", "api_key_ids")
_SINGLE: Final = ("start_time", "end_time", "bucket_width", "limit", "page")


def add_money_routes(app: FastAPI, service: Service) -> None:
    async def cost_page(request: Request, query: Annotated[PageQuery, Depends(_common)]) -> Response:
        return await answer(request, costs, replace(query, line_items=several(request, "line_items")), "line_items")

    async def usage_page(request: Request, query: Annotated[PageQuery, Depends(_common)]) -> Response:
        return await answer(request, usage, replace(query, models=several(request, "models")), "models")

    async def answer(request: Request, page_of: PageOf, query: PageQuery, own: str) -> Response:
        viewer = viewer_of(service, request)
        check_parameters(request, _SINGLE, (*_LISTS, own))
        return reply(await _read(service, page_of, _allowed(viewer, query)))

    for path in ("/v1/costs", "/v1/organization/costs"):
        app.add_api_route(path, cost_page, methods=["GET"], openapi_extra=several_schema(*_LISTS, "line_items"))
    for path in ("/v1/usage", "/v1/organization/usage/completions"):
        app.add_api_route(path, usage_page, methods=["GET"], openapi_extra=several_schema(*_LISTS, "models"))


def _allowed(viewer: Caller, query: PageQuery) -> PageQuery:
    """An answer with other projects left out would read as if nothing had been spent there.

    Raises ApiError `permission_denied`.
    """
    if viewer.is_admin:
        return query
    if set(query.project_ids) - {viewer.tenant}:
        raise ApiError("permission_denied", f"this key sees project '{viewer.tenant}' only", param="project_ids")
    return replace(query, tenant=viewer.tenant)


def _common(
    request: Request,
    start_time: Instant | None = None,
    end_time: Instant | None = None,
    bucket_width: str = "1d",
    limit: int | None = None,
    page: str | None = None,
) -> PageQuery:
    return PageQuery(
        start_s=start_time,
        end_s=end_time,
        bucket_width=bucket_width,
        group_by=several(request, "group_by"),
        limit=limit,
        page=page,
        project_ids=several(request, "project_ids"),
        api_key_ids=several(request, "api_key_ids"),
    )


async def _read(service: Service, page_of: PageOf, query: PageQuery) -> dict[str, Any]:
    try:
        return await asyncio.to_thread(page_of, service.settings.ledger, query, service.clock.wall_us())
    except ValueError as error:
        raise ApiError("invalid_value", str(error)) from None
