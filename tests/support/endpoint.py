"""A whole endpoint inside a test: service, application and uvicorn on a free port, before scripted or simulated pools.

Policies are written as dicts (JSON is YAML), so that a test changes the one key that it is about. When an endpoint
ends, its books must agree whatever happened: `sluice ledger verify` finds nothing and no hold is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from openai import AsyncOpenAI

from policies.compile.load import load_policy
from pools.simulator import SimulatedPools
from pricing.clock import Clock, ScaledClock
from pricing.ledger.read import reading, recent_rows
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.verify.sqlite import verify
from router.app import Server
from router.cli.simulate import free_phases
from router.service.service import Service
from router.service.settings import Settings
from support.ledgers import recent_requests
from support.scripted_server import Script, ScriptedServer, scripted

Policy = dict[str, Any]
KEYS = {"acme": "sk-acme-0123456789", "globex": "sk-globex-0123456789", "ops": "sk-ops-0123456789"}
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
ASK: list[Any] = [{"role": "user", "content": "hello"}]
SPEEDUP = 20.0
WAITS_S = {"connect_timeout_s": 5, "first_token_timeout_s": 10, "stall_timeout_s": 20, "hold_lease_s": 30}  # by default


def policy(**sections: Any) -> Policy:
    """Two tenants, an admin, and a class `chat` over four pools that boot in a second; sections replace these."""
    return {
        "version": 1,
        "price_book": "modal-2026-10",
        "defaults": {"reload_poll_s": 1},
        "classes": {
            "chat": {"ladder": {"economy": ["small"], "standard": ["mid", "other"], "premium": ["big"]}},
            "text": {"ladder": {"premium": ["small"]}},
            "pictures": {"ladder": {"premium": ["flux-schnell-fp8-a10"]}},
        },
        "aliases": {"gpt-4o-mini": "chat:economy"},
        "pools": {
            "small": _pool("qwen3-4b-bf16-a10", 4096),
            "mid": _pool("qwen3-vl-8b-fp8-l4", 8192),
            "other": _pool("qwen3-vl-8b-fp8-a10", 8192),
            "big": _pool("qwen3-vl-8b-bf16-l40s", 16384),
        },
        "tenants": {
            "acme": {"keys": [_key("acme")]},
            "globex": {"keys": [_key("globex")]},
            "ops": {"keys": [_key("ops", "admin", "warmup")]},
        },
        **sections,
    }


def _pool(extends: str, max_model_len: int) -> Policy:
    return {"extends": extends, "max_model_len": max_model_len, "boot_s": 1, "scaledown_window_s": 600}


def _key(name: str, *rights: str) -> Policy:
    return {"id": f"{name}-key", "sha256": hashlib.sha256(KEYS[name].encode()).hexdigest(), "rights": list(rights)}


def patient(files: Policy, speedup: float) -> Policy:
    """The policy for a clock that is faster than life: what it leaves to the default waits is as long as that is in
    real time, so that a machine that has too much to do is not taken for a pool that hangs, or a replica that died.
    """
    if speedup == 1:
        return files
    waits = {name: seconds * speedup for name, seconds in WAITS_S.items()}
    return {**files, "defaults": {**waits, **files.get("defaults", {})}}


def one_pool(**sections: Any) -> Policy:
    """The policy with `small` alone behind `chat`."""
    return policy(classes={"chat": {"ladder": {"premium": ["small"]}}}, **sections)


@dataclass(frozen=True)
class Reply:
    """One answer, read to its end; `complete` is False where its connection broke off before."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Of the error object."""
        found: str | None = self.json["error"]["code"]
        return found


@dataclass
class Endpoint:
    """A running endpoint and a client. `pools` is set before simulated pools, `upstream` before scripted ones."""

    service: Service
    server: Server
    url: str
    files: Path
    session: aiohttp.ClientSession
    pools: SimulatedPools | None = None
    upstream: dict[str, ScriptedServer] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        place = self.service.settings.ledger
        assert isinstance(place, Path)
        return place

    def client(self, key: str = KEYS["acme"], **more: Any) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, **more)

    async def ask(self, method: str, path: str, key: str | None = "acme", **more: Any) -> Reply:
        """One request. `key` is a name of `KEYS`, a key itself, or None; `json`, `data` and `headers` as in aiohttp."""
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {KEYS.get(key, key)}"
        async with self.session.request(method, self.url + path, headers=headers, **more) as response:
            try:
                return Reply(response.status, response.headers, await response.read())
            except aiohttp.ClientPayloadError:
                return Reply(response.status, response.headers, b"", complete=False)

    async def chat(self, key: str = "acme", *, headers: Mapping[str, str] | None = None, **body: Any) -> Reply:
        sent = {"model": "chat", "messages": ASK, **body}
        return await self.ask("POST", CHAT, key, json=sent, headers=headers or {})

    def write_policy(self, changed: Policy) -> None:
        """Replace the policy file, as an editor does."""
        text = json.dumps(patient(changed, self.service.clock.speedup))
        (self.files / "policy.yaml").write_text(text, encoding="utf-8")

    async def requests(self, count: int) -> list[RequestRow]:
        """The newest summaries, newest first, once there are that many: a client may see its answer a moment before."""
        async with asyncio.timeout(10):
            while len(found := await asyncio.to_thread(recent_requests, self.ledger, 1_000)) < count:
                pass
        return found

    async def request(self) -> RequestRow:
        [found] = await self.requests(1)
        return found

    def rows(self, tenant: str | None = None) -> list[LedgerRow]:
        """Rows of requests in the order written; the house's rows of containers left out."""
        return [row for row in reversed(recent_rows(self.ledger, 10_000, tenant)) if row.request_id]

    def charged_nusd(self, tenant: str = "acme") -> int:
        return sum(row.amount_nusd for row in self.rows() if row.account == tenant)

    async def settled(self) -> None:
        """Wait until no request runs."""
        async with asyncio.timeout(10):
            while await asyncio.to_thread(_open_holds, self.ledger) or self.service.ongoing:
                pass

    # -- the simulated platform ------------------------------------------------------------------------------------

    async def control(self, method: str, path: str, body: object = None) -> Any:
        assert self.pools is not None
        async with self.session.request(method, f"{self.pools.base_url}/platform{path}", json=body) as response:
            return await response.json()

    async def fail(self, pool: str, kind: str, **more: object) -> None:
        """Order a fault of a simulated pool."""
        assert await self.control("POST", f"/pools/{pool}/fail", {"kind": kind, **more}) == {}

    async def wake(self, *names: str) -> None:
        """Containers of these pools, known to the router."""
        for name in names:
            self.service.warmups.start(name)
        async with asyncio.timeout(30):
            for name in names:
                await self.service.live.pool(name).became_ready.wait()


def _open_holds(ledger: Path) -> int:
    with reading(ledger) as connection:
        [count] = connection.execute("SELECT count(*) FROM holds").fetchone()
    return int(count)


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    files: Policy,
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
    agrees: bool = True,
    **settings: Any,
) -> AsyncIterator[Endpoint]:
    """An endpoint over a policy that names its own endpoints. `agrees` False: the books are not looked at."""
    place = folder / "policy"
    place.mkdir(exist_ok=True)
    ticking = clock or ScaledClock(SPEEDUP)
    (place / "policy.yaml").write_text(json.dumps(patient(files, ticking.speedup)), encoding="utf-8")
    ledger = folder / "ledger.sqlite"
    chosen = Settings(policy_paths=(place,), ledger=ledger, port=0, **{"grace_s": 1.0, **settings})
    service = Service(chosen, ticking, environ or {})
    listens: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    try:
        await service.start()
        server = Server(service, lambda url, _: listens.set_result(url))
        running = asyncio.create_task(server.serve())
        await listens
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Endpoint(service, server, listens.result(), place, session)
        server.should_exit = True
        await running
    finally:
        await service.stop()
    if agrees:
        books = verify(ledger, ticking.wall_us(), service.policy.caps)
        assert books.problems == ()
        assert books.open_holds == 0


@contextlib.asynccontextmanager
async def before_scripts(
    folder: Path,
    scripts: Mapping[str, Script],
    files: Policy | None = None,
    *,
    secret: str | None = None,
    asleep: Collection[str] = (),
    **more: Any,
) -> AsyncIterator[Endpoint]:
    """An endpoint before servers that answer byte by byte, one for each pool named; the clock is real.

    `secret` names the variable of `environ` that the pools' key is read from. Pools are always on, but for those that
    are `asleep`, which a knock wakes.
    """
    async with contextlib.AsyncExitStack() as stack:
        upstream = {name: await stack.enter_async_context(scripted(script)) for name, script in scripts.items()}
        key = {"api_key": f"${{{secret}}}"} if secret else {}
        endpoints = {
            name: {"url": server.url, "always_on": int(name not in asleep), **key} for name, server in upstream.items()
        }
        text = {**(files or policy()), "endpoints": endpoints}
        endpoint = await stack.enter_async_context(serving(folder, text, **{"clock": ScaledClock(), **more}))
        endpoint.upstream = upstream
        yield endpoint


@contextlib.asynccontextmanager
async def before_simulated(
    folder: Path,
    files: Policy | None = None,
    *,
    speedup: float = SPEEDUP,
    awake: tuple[str, ...] = (),
    media: bool = False,
    origin_us: int | None = None,
    **more: Any,
) -> AsyncIterator[Endpoint]:
    """An endpoint before simulated pools, on one clock; with `media` those that make pictures or clips run too.

    Over a restart time goes on with the same `origin_us`, the real instant at which that clock was right.
    """
    clock = ScaledClock(speedup, origin_us)
    text = files or policy()
    draft = folder / "draft.yaml"
    draft.write_text(json.dumps(text), encoding="utf-8")
    compiled = load_policy([draft], environ={}, now_us=time.time_ns() // 1000, assume_deployed=True)
    specs = [spec for spec in compiled.pools.values() if media or spec.engine == "vllm"]
    rates = {spec.name: compiled.rates[spec.name].nusd_per_h for spec in specs}
    free = {spec.name: free_phases(compiled, spec) for spec in specs}
    pools = SimulatedPools(specs, rates, clock, seed=1, free=free)
    base_url = await pools.start()
    endpoints = {spec.name: {"url": f"{base_url}/pools/{spec.name}"} for spec in specs}
    text = {**text, "platform": {"url": base_url}, "endpoints": endpoints}
    try:
        async with serving(folder, text, **{"clock": clock, "platform_poll_s": 2.0, **more}) as endpoint:
            endpoint.pools = pools
            await endpoint.wake(*awake)
            yield endpoint
    finally:
        await pools.stop()


def events(body: bytes) -> list[Any]:
    """The data of each server-sent event, decoded; `[DONE]` as that text."""
    texts = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]
