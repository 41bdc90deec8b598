"""How soon the dashboard is seen: first paint in a real Chromium, over loopback, with nothing cached.

    python benchmarks/bench_dashboard.py [--seconds 20] [--rounds 10]

An endpoint is loaded for so long, so that its ledger has something to add up; then an admin opens the first page, round
after round. Times are the browser's own performance entries, from the start of the navigation. The endpoint has the
first core, the browser the last.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

import load
from bench_endpoint import PATH, body
from gateways import KEY, READY_S, SLUICE
from processes import free_port, running, wait_until_ready
from results import Result, Target, number

HERE: Final = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))
from support.chromium import NO_PROGRAM, Page, driving, find_chromium, running_chromium  # noqa: E402 # tests' own driver

ADMIN_KEY: Final = "sk-admin-" + "0" * 24
ADMIN: Final = """\
version: 1
tenants:
  ops:
    keys: [{{id: ops, sha256: {sha256}, rights: [admin]}}]
"""
WIDTHS: Final = {"1280 px": 1280, "390 px": 390}
TIMES: Final = """(() => {
    const page = performance.getEntriesByType("navigation")[0];
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    return [page.responseEnd, paint.startTime, page.loadEventEnd];
})()"""
PAINTED: Final = 'performance.getEntriesByName("first-contentful-paint").length === 1'


@dataclass(slots=True)
class Measured:
    """Milliseconds by width, one triple a round: the document is there, first paint, all of it is loaded."""

    requests: int = 0
    times_ms: dict[str, list[list[float]]] = field(default_factory=dict)

    def column(self, width: str, which: int) -> list[float]:
        return [times[which] for times in self.times_ms[width]]


async def sign_in(page: Page, url: str) -> None:
    await page.open(f"{url}/")
    await page.type(ADMIN_KEY)
    page.loaded.clear()
    await page.press("Enter")
    await page.loaded.wait()


async def rounds_of(browser: str, url: str, rounds: int, measured: Measured) -> None:
    async with driving(browser) as driven, driven.page() as page:
        await page.call("Network.setCacheDisabled", cacheDisabled=True)
        for name, width in WIDTHS.items():
            await page.look(width, phone=width < 600)
            if not measured.times_ms:
                await sign_in(page, url)
            measured.times_ms[name] = []
            for _ in range(rounds):
                await page.open(f"{url}/")
                await page.until(PAINTED)
                measured.times_ms[name].append(await page.run(TIMES))


def measure(program: str, seconds: float, rounds: int) -> Measured:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    measured = Measured()
    with tempfile.TemporaryDirectory() as name, running_chromium(program) as browser:
        folder, port, upstream = Path(name), free_port(), free_port()
        admin = folder / "admin.yaml"
        admin.write_text(ADMIN.format(sha256=hashlib.sha256(ADMIN_KEY.encode()).hexdigest()), encoding="utf-8")
        server = [sys.executable, str(HERE / "upstream.py"), "--port", str(upstream)]
        command = [*SLUICE.prepare(folder, port, upstream), "--policy", str(admin)]
        logs = folder / "upstream.log", folder / "endpoint.log"
        with running(server, core=cores[-1], cwd=folder, log=logs[0]) as upstream_process:
            wait_until_ready(upstream_process, f"http://127.0.0.1:{upstream}/", logs[0], READY_S)
            with running(command, core=cores[0], cwd=folder, log=logs[1]) as process:
                wait_until_ready(process, f"http://127.0.0.1:{port}{SLUICE.ready_path}", logs[1], READY_S)
                target = load.Target(port, PATH, body(streamed=False), KEY)
                measured.requests = uvloop.run(load.run(target, clients=16, seconds=seconds)).answers
                asyncio.run(rounds_of(browser, f"http://127.0.0.1:{port}", rounds, measured))
    return measured


def row(measured: Measured, width: str) -> Sequence[str]:
    medians = [number(statistics.median(measured.column(width, which))) for which in range(3)]
    return [width, *medians, number(max(measured.column(width, 1)))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=20.0, help="of load before")
    options.add_argument("--rounds", type=int, default=10, choices=range(1, 101), metavar="N")
    given = options.parse_args()
    program = find_chromium()
    if program is None:
        sys.exit(NO_PROGRAM)
    measured = measure(program, given.seconds, given.rounds)
    worst_ms = max(max(measured.column(width, 1)) for width in WIDTHS)
    about = (
        f"The first page for an admin, whose ledger (SQLite) has {measured.requests:,} requests of the last "
        f"{given.seconds:g} s; {given.rounds} rounds at each width, nothing cached. The document is made of twelve "
        "answers of the API."
    )
    columns = ("screen", "document ms", "first paint ms", "loaded ms", "slowest first paint ms")
    target = Target("slowest first paint, ms", "below 1000", number(worst_ms), worst_ms < 1000)
    print(Result("The dashboard", about, columns, [row(measured, width) for width in WIDTHS], [target]).as_json())


if __name__ == "__main__":
    main()
