"""Replicas as processes: `sluice serve`, several of them, before one set of simulated pools, Redis and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from typer.testing import CliRunner, Result

from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import LedgerRow
from router.cli.main import app
from router.demo.processes import Child

KEYS = {"acme": "sk-acme-0123456789", "globex": "sk-globex-0123456789", "ops": "sk-ops-0123456789"}
CHAT = "/v1/chat/completions"
LEASE_S = 6.0
_LIVELY = {"boot_s": 1, "scaledown_window_s": 600}
WITHIN_S = 60.0


def policy(**sections: Any) -> dict[str, Any]:
    """One small pool that boots in a second; two tenants and an admin."""
    return {
        "version": 1,
        "price_book": "modal-2026-10",
        "defaults": {"hold_tick_s": 0.25, "hold_lease_s": LEASE_S, "reload_poll_s": 2},
        "classes": {"chat": {"ladder": {"premium": ["small"]}}},
        "pools": {"small": {"extends": "qwen3-4b-bf16-a10", "max_model_len": 4096, **_LIVELY}},
        "tenants": {
            name: {
                "keys": [{"id": f"{name}-key", "sha256": hashlib.sha256(key.encode()).hexdigest(), "rights": rights}]
            }
            for (name, key), rights in zip(KEYS.items(), ([], [], ["admin"]), strict=True)
        },
        **sections,
    }


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cost_nusd(self) -> int:
        """What the answer says that it cost."""
        cost_usd: float = self.json["usage"]["cost"]
        return round(cost_usd * 10**9)


@dataclass
class Replicas:
    """What they share, and those that run, by name."""

    folder: Path
    environ: dict[str, str]
    session: aiohttp.ClientSession
    running: dict[str, Child] = field(default_factory=dict)

    async def start(self, name: str, *options: str, called: str | None = None) -> Child:
        """`called` is what it is called among the replicas, if not by its name here."""
        words = ["--policy", str(self.folder / "policy.yaml"), "--port", "0", "--log-level", "warning", *options]
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        child = await Child.start("serve", words, folder, {**self.environ, "SLUICE_REPLICA": called or name})
        self.running[name] = child
        return child

    def freeze(self, name: str) -> None:
        """SIGSTOP: its connections stay open and it does nothing."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        self.running[name]._process.send_signal(number)

    def log(self, name: str) -> str:
        """All that a replica has said."""
        return (self.folder / name / "serve.log").read_text(encoding="utf-8")

    async def ask(self, replica: str, path: str, key: str = "ops", method: str = "GET", **more: Any) -> Reply:
        headers = {"Authorization": f"Bearer {KEYS[key]}"}
        url = self.running[replica].url + path
        async with self.session.request(method, url, headers=headers, **more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def chat(self, replica: str, key: str = "acme", tokens: int = 20, **more: Any) -> Reply:
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": tokens,
            "sim_output_tokens": tokens,
            **more,
        }
        return await self.ask(replica, CHAT, key, "POST", json=body)

    async def readiness(self, replica: str) -> Any:
        return (await self.ask(replica, "/health/readiness")).json

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds that servers and replicas come to by themselves."""
        async with asyncio.timeout(WITHIN_S):
            while not await holds():
                pass

    async def is_up(self, name: str) -> bool:
        """Whether a replica says that its budget store can be used."""
        return bool((await self.readiness(name))["store"] == "up")

    def rows(self) -> list[LedgerRow]:
        """Of requests, newest first; those of containers left out."""
        return [row for row in recent_rows(PostgresUrl(self.environ["SLUICE_LEDGER"]), 10_000) if row.request_id]

    async def verified(self) -> Any:
        """What `sluice ledger verify` finds; nothing before the tables are made."""
        files = str(self.folder / "policy.yaml")
        said = await asyncio.to_thread(self.sluice, "ledger", "verify", "--json", "--policy", files)
        return json.loads(said.output or "{}")

    async def drained(self) -> None:
        """Wait until no hold is open and nothing of the ledger waits in Redis; then everything must agree."""

        async def at_rest() -> bool:
            found = await self.verified()
            return bool(found) and not found["waiting"] and not found["open_holds"]

        await self.until(at_rest)
        found = await self.verified()
        assert found["problems"] == [], found

    def sluice(self, *words: str) -> Result:
        """A verb, with the environment that the replicas have."""
        return CliRunner().invoke(app, words, env=self.environ)


@contextlib.asynccontextmanager
async def replicas(
    folder: Path,
    redis_url: str,
    postgres_url: str,
    files: Mapping[str, Any] | None = None,
    namespace: str = "sluice",
    simulated: tuple[str, ...] = (),
) -> AsyncIterator[Replicas]:
    """Simulated pools in a process of their own (`simulated`, else all that chat), and nothing that serves yet."""
    text = dict(files or policy())
    path = folder / "policy.yaml"
    path.write_text(json.dumps(text), encoding="utf-8")
    named = [word for name in simulated for word in ("--pool", name)]
    pools = await Child.start("simulate", ["--policy", str(path), "--port", "0", *named], folder)
    text["endpoints"] = {name: {"url": f"{pools.url}/pools/{name}"} for name in text["pools"]}
    text["platform"] = {"url": pools.url}
    path.write_text(json.dumps(text), encoding="utf-8")
    environ = {
        "SLUICE_REDIS_URL": redis_url,
        "SLUICE_LEDGER": postgres_url,
        "SLUICE_REDIS_NAMESPACE": namespace,
        "SLUICE_POLICY": str(path),
    }
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        made = Replicas(folder, environ, session)
        try:
            yield made
        finally:
            for child in made.running.values():
                await child.kill()
            await pools.kill()
