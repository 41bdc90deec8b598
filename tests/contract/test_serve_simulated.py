"""`sluice serve --simulate` on the policy of a production: nothing reaches what it names, and everybody is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from router.demo.processes import Child
from support.endpoint import ASK, CHAT, KEYS, Policy, one_pool

HEADERS = {"Authorization": f"Bearer {KEYS['ops']}"}


def production(address: str, **more: str) -> Policy:
    """A policy whose pool, platform and webhook answer at `address`, with secrets that nobody has set here."""
    return one_pool(
        endpoints={"small": {"url": address, "api_key": "${NO_SUCH_KEY}", **more}},
        platform={"url": address},
        webhooks=[{"url": f"{address}/hook", "secret": "${NO_SUCH_SECRET}"}],
        caps=[{"name": "tiny", "amount_usd": "0.000001", "window": "24h", "scope": "tenant:globex"}],
    )


async def test_the_real_endpoints_of_a_policy_are_sent_nothing(tmp_path: Path) -> None:
    """Neither at start, nor by a request, a warm-up or a cap's event, nor after an edit; terminal, log and health say
    that all of it is simulated.
    """
    reached: list[object] = []

    def real(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(real, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    files = tmp_path / "policy.yaml"
    files.write_text(json.dumps(production(address)), encoding="utf-8")
    where = ["--policy", str(files), "--ledger", str(tmp_path / "l.sqlite"), "--port", "0"]
    child = await Child.start("serve", [*where, "--simulate", "--speedup", "20"], tmp_path)
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession(child.url, headers=HEADERS) as session:
            async with session.post("/warmup", json={"pool": "small"}) as reply:
                assert reply.status in (200, 202)
            await answered(session)
            poor = {"Authorization": f"Bearer {KEYS['globex']}"}
            async with session.post(CHAT, json={"model": "chat", "messages": ASK}, headers=poor) as reply:
                assert (reply.status, (await reply.json())["error"]["code"]) == (429, "budget_exceeded")
            before = await health(session)
            assert before["simulated"] is True
            assert before["policy"]["replaced"] == ["1 endpoint", "platform url", "1 webhook"]
            files.write_text(json.dumps(production(address, url=f"{address}/moved")), encoding="utf-8")
            while (await health(session))["policy_version"] == before["policy_version"]:
                pass
            await answered(session)
    finally:
        await child.stop()
        server.close()
    assert not reached
    said = (tmp_path / "serve.log").read_text(encoding="utf-8")
    assert "SIMULATED: nothing is sent to what the policy names: 1 endpoint, platform url, 1 webhook\n" in said
    assert '"event":"pools are simulated"' in said


async def answered(session: aiohttp.ClientSession) -> None:
    async with session.post(CHAT, json={"model": "chat", "messages": ASK, "max_tokens": 5}) as reply:
        assert reply.status == 200, await reply.text()
        assert reply.headers["x-sluice-pool"] == "small"


async def health(session: aiohttp.ClientSession) -> dict[str, Any]:
    async with session.get("/health") as reply:
        found: dict[str, Any] = await reply.json()
        return found
