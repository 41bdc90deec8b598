"""`GET /v1/reports`: what was spent, rolled up from the ledger. An admin sees all rows, a key those of its tenant."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request, Response

from pricing.reports.share import HouseView
from router.errors import ApiError
from router.http.parameters import check_parameters, several, several_schema
from router.http.replies import viewer_of
from router.inbound.callers import Caller
from router.service.service import Service
from router.views.baselines import PREMIUM
from router.views.reporting import Form, ReportAsked, make_report, sets_for, written

_TYPES: Final = {
    Form.JSON: "application/json",
    Form.CSV: "text/csv; charset=utf-8; header=present",
    Form.HTML: "text/html; charset=utf-8",
}
_LISTS: Final = ("by", "show")  # names joined by commas, repeated, or both
_SINGLE: Final = ("since", "until", "tenant", "house", "timezone", "baseline", "format")
# The page runs no script and fetches nothing: its style is inline, its plots are part of it.
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def add_report_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/reports", openapi_extra=several_schema(*_LISTS))
    async def reports(
        request: Request,
        since: str = "24h",
        until: str = "now",
        tenant: str | None = None,
        house: str = HouseView.SEPARATE.value,
        timezone: str = "UTC",
        baseline: str = PREMIUM,
        form: Annotated[str, Query(alias="format")] = Form.JSON.value,
    ) -> Response:
        viewer = viewer_of(service, request)
        check_parameters(request, _SINGLE, _LISTS)
        asked = ReportAsked(since=since, until=until, tenant=tenant, house=house, timezone=timezone, baseline=baseline)
        if by := several(request, "by"):
            asked = replace(asked, by=",".join(by))
        if show := several(request, "show"):
            asked = replace(asked, show=",".join(show))
        return await asyncio.to_thread(_answer, service, _allowed(viewer, asked), form)


def _allowed(viewer: Caller, asked: ReportAsked) -> ReportAsked:
    """What others used decides a share of boot and idle, so that a tenant is not shown one.

    Raises ApiError `permission_denied`.
    """
    if viewer.is_admin:
        return asked
    if asked.tenant not in (None, viewer.tenant):
        raise ApiError("permission_denied", f"this key sees reports of tenant '{viewer.tenant}' only", param="tenant")
    if asked.house != HouseView.SEPARATE:
        raise ApiError(
            "permission_denied", "how boot and idle are shared depends on other tenants; ask for it with an admin key"
        )
    return replace(asked, tenant=viewer.tenant)


def _answer(service: Service, asked: ReportAsked, form: str) -> Response:
    try:
        if form not in list(Form):
            raise ValueError(f"format '{form}' is not one of {', '.join(Form)}")
        sets = sets_for(asked)
        found = make_report(service.settings.ledger, asked, lambda: service.policy, sets, service.clock.wall_us())
    except ValueError as error:
        raise ApiError("invalid_value", str(error)) from None
    headers = {"content-security-policy": _PAGE_POLICY} if form == Form.HTML else {}
    return Response(written(found, Form(form), sets), media_type=_TYPES[Form(form)], headers=headers)
