"""`sluice serve` exactly as the systemd unit starts it: a real process, stopped in the middle of a stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from policies.compile.load import load_policy
from pools.simulator import SimulatedPools
from pricing.clock import SystemClock
from pricing.verify.sqlite import verify
from support.endpoint import ASK, CHAT, KEYS, events, one_pool
from support.real_redis import free_port
from support.unit_file import Unit

SECRET = "pool-key-0123456789"
TOKENS = 80  # seconds of stream
SIZE = {"max_tokens": TOKENS, "sim_output_tokens": TOKENS}
WITHIN_S = 30.0


@contextlib.asynccontextmanager
async def pool(folder: Path) -> AsyncIterator[None]:
    """A simulated pool, and the policy in /etc/sluice that points at it; its key comes from the environment's file."""
    policies = folder / "etc" / "sluice" / "policies"
    policies.mkdir(parents=True)
    part = policies / "policy.yaml"
    part.write_text(json.dumps(one_pool()), encoding="utf-8")
    clock = SystemClock()
    loaded = load_policy([part], environ={}, now_us=clock.wall_us(), assume_deployed=True)
    spec = loaded.pools["small"]
    pools = SimulatedPools([spec], {"small": loaded.rates["small"].nusd_per_h}, clock, seed=1)
    url = await pools.start()
    endpoints = {"small": {"url": f"{url}/pools/small", "api_key": "${POOL_KEY}"}}
    part.write_text(json.dumps({**one_pool(), "platform": {"url": url}, "endpoints": endpoints}), encoding="utf-8")
    try:
        yield
    finally:
        await pools.stop()


@contextlib.asynccontextmanager
async def started(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The unit's ExecStart with its environment, working folder and umask; only /etc and /var/lib lie elsewhere."""
    unit = Unit()
    state = folder / "var" / "lib"
    (state / unit.one("StateDirectory")).mkdir(parents=True, mode=int(unit.one("StateDirectoryMode"), 8))
    program, *words = unit.command(etc=str(folder / "etc"))
    assert Path(program).name == "sluice"
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("sluice")),
        *words,
        cwd=unit.one("WorkingDirectory").replace("%S", str(state)),
        env={
            "PATH": os.environ["PATH"],
            **unit.environment(str(state)),
            "SLUICE_PORT": str(port),
            "POOL_KEY": SECRET,
        },
        umask=int(unit.one("UMask"), 8),
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def listens(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/health/readiness") as ready:
                    if ready.status == 200:
                        return
            await asyncio.sleep(0.1)


async def test_a_stop_in_the_middle_of_a_stream_lets_it_end(tmp_path: Path) -> None:
    """SIGTERM, as systemd sends it: the answer is completed and paid, status 0, books that agree, and nothing that
    others may read.
    """
    port = free_port()
    headers = {"Authorization": f"Bearer {KEYS['acme']}"}
    body = {"model": "chat", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}, **SIZE}
    async with (
        pool(tmp_path),
        started(tmp_path, port) as process,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session,
    ):
        await listens(session)
        async with session.post(CHAT, json=body) as reply:
            first = await reply.content.readuntil(b"\n\n")
            process.send_signal(signal.SIGTERM)
            rest = await reply.read()
        async with asyncio.timeout(WITHIN_S):
            assert await process.wait() == 0
    told = events(first + rest)
    assert told[-1] == "[DONE]"
    assert told[-2]["usage"]["completion_tokens"] == TOKENS
    ledger = tmp_path / "var" / "lib" / "sluice" / "sluice.sqlite"
    books = verify(ledger, SystemClock().wall_us())
    assert (books.problems, books.open_holds) == ((), 0)
    assert ledger.stat().st_mode & 0o077 == 0
