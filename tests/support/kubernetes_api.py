"""A fake of a Kubernetes API server over real HTTP, with as much of it as the router asks: Deployments, Pods, scales.

It is a fake: no controller runs in it. A test says when Pods start, are ready and end; scaling changes the number that
is wanted, and nothing else. Shapes of bodies are those of the API reference (apps/v1 Deployment, autoscaling/v1 Scale,
core/v1 PodList, meta/v1 Status).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

TOKEN = "a-service-account's-token"
NAMESPACE = "models"


def when(us: int) -> str:
    """As Kubernetes writes an instant: to the second, in UTC."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class FakePod:
    uid: str
    started_us: int | None = None  # None: no node has taken it
    ready_us: int | None = None
    ending: bool = False
    phase: str = "Running"
    ip: str | None = None

    def as_json(self) -> dict[str, Any]:
        ready = {"type": "Ready", "status": "False" if self.ready_us is None else "True"}
        status: dict[str, Any] = {
            "phase": self.phase,
            "conditions": [{"type": "PodScheduled", "status": "True"}, ready],
        }
        if self.started_us is not None:
            status["startTime"] = when(self.started_us)
        if self.ready_us is not None:
            ready["lastTransitionTime"] = when(self.ready_us)
        if self.ip is not None:
            status["podIP"] = self.ip
        metadata = {"name": self.uid, "uid": self.uid, "labels": {}}
        return {"metadata": {**metadata, **({"deletionTimestamp": when(0)} if self.ending else {})}, "status": status}


@dataclass
class FakeDeployment:
    replicas: int = 0
    version: int = 1
    pods: list[FakePod] = field(default_factory=list)
    selector: dict[str, Any] = field(default_factory=lambda: {"matchLabels": {"app": "vllm", "tier": "gpu"}})


@dataclass
class FakeKubernetes:
    """`denied` are rights that the account lacks, as `verb resource`; `troubles` are answered first, one a request."""

    deployments: dict[str, FakeDeployment] = field(default_factory=dict)
    token: str = TOKEN
    denied: set[str] = field(default_factory=set)
    troubles: list[web.Response] = field(default_factory=list)
    conflicts: int = 0  # of the next changes that meet another one
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.troubles:
            return self.troubles.pop(0)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized")
        kind = (request.match_info.route.name or "").replace(".", "/")
        verb = {"GET": "list" if kind == "pods" else "get", "PATCH": "patch"}[request.method]
        if f"{verb} {kind}" in self.denied:
            text = f'{kind} is forbidden: User "system:serviceaccount:sluice:router" cannot {verb} resource'
            return status(403, text)
        if request.match_info["namespace"] != NAMESPACE:
            return status(404, "not found")
        return await self._pods(request) if kind == "pods" else await self._deployment(request, kind)

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        asked = dict(part.split("=") for part in request.query["labelSelector"].split(","))
        found = [one for one in self.deployments.values() if one.selector.get("matchLabels") == asked]
        items = [pod.as_json() for one in found for pod in one.pods]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _deployment(self, request: web.Request, kind: str) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self.deployments:
            return status(404, f'deployments.apps "{name}" not found')
        one = self.deployments[name]
        if kind == "deployments":
            spec = {"replicas": one.replicas, "selector": one.selector}
            return web.json_response({"kind": "Deployment", "metadata": {"name": name}, "spec": spec, "status": {}})
        if request.method == "PATCH":
            if request.content_type != "application/merge-patch+json":
                return status(415, "unsupported media type")
            body = await request.json()
            if self.conflicts or body["metadata"]["resourceVersion"] != str(one.version):
                self.conflicts -= 1
                one.version += 1
                return status(409, "the object has been modified; please apply your changes to the latest version")
            one.replicas, one.version = body["spec"]["replicas"], one.version + 1
        scale = {"metadata": {"name": name, "resourceVersion": str(one.version)}, "spec": {}, "status": {"replicas": 0}}
        if one.replicas:
            scale["spec"] = {"replicas": one.replicas}  # 0 is left out, as Kubernetes does
        return web.json_response({"kind": "Scale", "apiVersion": "autoscaling/v1", **scale})


def status(code: int, message: str, **headers: str) -> web.Response:
    """A refusal, as the API server words it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return web.json_response(body, status=code, headers=headers)


@contextlib.asynccontextmanager
async def kubernetes_api(**deployments: FakeDeployment) -> AsyncIterator[FakeKubernetes]:
    """A running fake on a free port of loopback."""
    fake = FakeKubernetes({name.replace("_", "-"): one for name, one in deployments.items()})
    app = web.Application()
    base = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    app.router.add_get(base, fake.answer, name="deployments")
    app.router.add_route("*", base + "/scale", fake.answer, name="deployments.scale")
    app.router.add_get("/api/v1/namespaces/{namespace}/pods", fake.answer, name="pods")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
