"""aiohttp and httpx as clients of the same upstream: CPU of the calling process, with no server around them."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp
import httpx
import uvloop

from bench_endpoint import HERE, PATH, body
from gateways import READY_S
from processes import free_port, running, wait_until_ready
from results import Result, number

AT_ONCE: Final = 32
ROUNDS: Final = 3
Call = Callable[[], Awaitable[int]]


async def repeated(call: Call, seconds: float) -> float:
    """CPU microseconds a call, with `AT_ONCE` of them under way for `seconds`. Raises RuntimeError."""
    until = time.perf_counter() + seconds
    made = 0

    async def one_after_another() -> None:
        nonlocal made
        while time.perf_counter() < until:
            status = await call()
            if status != 200:
                raise RuntimeError(f"the upstream answered {status}")
            made += 1

    begun = time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return (time.process_time() - begun) / made * 1e6


async def with_aiohttp(url: str, seconds: float) -> float:
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> int:
            async with session.post(url, data=body(streamed=False), headers=headers) as answer:
                await answer.read()
                return answer.status

        return await repeated(call, seconds)


async def with_httpx(url: str, seconds: float) -> float:
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:

        async def call() -> int:
            return (await client.post(url, content=body(streamed=False), headers=headers)).status_code

        return await repeated(call, seconds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.5)
    given = options.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with tempfile.TemporaryDirectory() as name:
        port, log = free_port(), Path(name) / "upstream.log"
        command = [sys.executable, str(HERE / "upstream.py"), "--port", str(port)]
        with running(command, core=cores[-1], cwd=Path(name), log=log) as process:
            wait_until_ready(process, f"http://127.0.0.1:{port}/", log, READY_S)
            url = f"http://127.0.0.1:{port}{PATH}"
            clients = {"aiohttp": with_aiohttp, "httpx": with_httpx}
            taken: dict[str, list[float]] = {client: [] for client in clients}
            for _ in range(ROUNDS):
                for client, calls in clients.items():
                    taken[client].append(uvloop.run(calls(url, given.seconds)))
    rows = [(client, number(statistics.median(each))) for client, each in taken.items()]
    about = f"1 KB requests, {AT_ONCE} at once, {given.seconds:g} s a round, median of {ROUNDS} rounds."
    print(Result("Clients", about, ("client", "CPU µs/request"), rows).as_json())


if __name__ == "__main__":
    main()
