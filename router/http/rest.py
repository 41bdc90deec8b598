"""Everything that does not run a model, on FastAPI: models, decisions, money, health, metrics.

Thin: who may see it, what they see. A key sees its own rows; an admin key sees all.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from policies.choose.names import names
from policies.explain.record import as_json
from pricing.errors import StoreUnavailable
from router.errors import ApiError
from router.http.budgets import add_budget_routes
from router.http.decisions import add_decision_routes
from router.http.focus import add_focus_routes
from router.http.money import add_money_routes
from router.http.policy_view import add_policy_routes
from router.http.pools import add_pool_routes
from router.http.replies import body_of, caller_of, reply, viewer_of
from router.http.reports import add_report_routes
from router.inbound.bodies import WarmupBody, route_request
from router.inbound.callers import ADMIN, WARMUP, Caller
from router.inbound.sessions import session_asked
from router.service import health
from router.service.service import Service
from router.views.past import past_json


def build_rest(service: Service) -> FastAPI:
    """All routes of one service. Errors are OpenAI error objects, 404 and 405 included."""
    app = FastAPI(title="Sluice", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    _add_errors(app)
    _add_health(app, service)
    _add_models(app, service)
    add_decision_routes(app, service)  # before `/v1/decisions/{id}`
    _add_routing(app, service)
    _add_warmup(app, service)
    add_budget_routes(app, service)
    add_money_routes(app, service)
    add_report_routes(app, service)
    add_focus_routes(app, service)
    add_pool_routes(app, service)
    add_policy_routes(app, service)
    return app


# -- errors ------------------------------------------------------------------------------------------------------------


def _add_errors(app: FastAPI) -> None:
    def answer(error: ApiError, **more: str) -> Response:
        headers = {name.decode(): value.decode() for name, value in error.headers()}
        return Response(error.body(), error.status, {**headers, **more})

    async def on_api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return answer(error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            text = f"{request.url.path} takes {allowed}, not {request.method}"
            return answer(ApiError("method_not_allowed", text), allow=allowed)
        if error.status_code == 404:
            text = f"{request.method} {request.url.path} is not served here; docs/api.md lists what is"
            return answer(ApiError("unknown_url", text))
        return answer(ApiError("invalid_value", str(error.detail)))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        param = ".".join(str(step) for step in first["loc"] if step not in ("body", "query", "path"))
        return answer(ApiError("invalid_value", f"'{param}': {first['msg']}", param=param or None))

    async def on_store_unavailable(request: Request, error: Exception) -> Response:
        return answer(ApiError("store_unavailable", str(error)))

    async def on_fault(request: Request, error: Exception) -> Response:
        """The server that runs us logs the error itself: it is raised again once this answer is out."""
        return answer(ApiError("internal_error", "this is a fault of the endpoint; its log has more"))

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(StoreUnavailable, on_store_unavailable)
    app.add_exception_handler(Exception, on_fault)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)


# -- health and metrics ------------------------------------------------------------------------------------------------


def _add_health(app: FastAPI, service: Service) -> None:
    """None of these touches a model: a probe of a sleeping pool would wake it and bill.

    Health is for load balancers, which have no key: names of tenants, pools and hosts are for admins alone.
    """

    def for_admin(request: Request) -> bool:
        try:
            return viewer_of(service, request).is_admin
        except ApiError:  # no key, or none of ours
            return False

    @app.get("/health/liveness")
    @app.get("/health/liveliness")
    async def liveness() -> Response:
        return reply({"status": "ok"})

    @app.get("/health/readiness")
    async def readiness() -> Response:
        report = health.readiness(service)
        return reply(report, 200 if report["ready"] else 503)

    @app.get("/health")
    async def whole(request: Request) -> Response:
        return reply(health.health(service) if for_admin(request) else health.public_health(service))

    @app.get("/health/{model}")
    async def of_model(model: str, request: Request) -> Response:
        service.class_of(model)  # raises with the nearest names
        report = health.health_of(service, model, with_pools=for_admin(request))
        return reply(report, 503 if report["status"] == "unavailable" else 200)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        viewer_of(service, request).require(ADMIN)
        await service.metrics.budgets.look(service.store, service.policy.caps)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


# -- models ------------------------------------------------------------------------------------------------------------


def _add_models(app: FastAPI, service: Service) -> None:
    def listed(caller: Caller) -> list[dict[str, Any]]:
        allowed = caller.classes
        return [
            {"id": name, "object": "model", "created": service.started_s, "owned_by": "sluice"}
            for name in names(service.policy)
            if allowed is None or service.class_of(name) in allowed
        ]

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return reply({"object": "list", "data": listed(caller_of(service, request))})

    @app.get("/v1/models/{name:path}")
    async def model(name: str, request: Request) -> Response:
        found = [one for one in listed(caller_of(service, request)) if one["id"] == name]
        if not found:
            service.class_of(name)  # raises with the nearest names
            raise ApiError("model_not_found", f"this key may not use '{name}'", param="model")
        return reply(found[0])


# -- routing -----------------------------------------------------------------------------------------------------------


def _add_routing(app: FastAPI, service: Service) -> None:
    @app.post("/v1/route")
    async def route(request: Request) -> Response:
        """The decision that a request would get now, without running it."""
        caller = caller_of(service, request)
        asked = route_request(await body_of(service, request), service.medium_of)
        session = session_asked(request.scope["headers"])
        return reply(as_json(service.controller.plan(asked, caller, service.policy, session)))

    @app.get("/v1/decisions/{request_id}")
    async def decision(request_id: str, request: Request) -> Response:
        """Why a past request went where it went, with its attempts and what they cost."""
        viewer = viewer_of(service, request)
        found = await service.find_request(request_id)
        if found is None or not (viewer.is_admin or found.summary.tenant == viewer.tenant):
            raise ApiError("decision_not_found", f"no request '{request_id}' of yours is in the ledger")
        return reply(past_json(found))


def _add_warmup(app: FastAPI, service: Service) -> None:
    async def warm(request: Request, body: WarmupBody) -> Response:
        caller = caller_of(service, request)
        caller.require(WARMUP)
        return reply(service.warm_up(caller, body.model, body.pool), 202)

    @app.post("/warmup")
    async def warmup(request: Request) -> Response:
        return await warm(request, WarmupBody.read(await body_of(service, request)))

    @app.get("/warmup")
    async def warmup_by_get(request: Request, model: str | None = None, pool: str | None = None) -> Response:
        return await warm(request, WarmupBody(model=model, pool=pool))
