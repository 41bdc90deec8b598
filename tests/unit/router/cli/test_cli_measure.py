"""`sluice measure` as a command: what it refuses, what it prints and writes, and how Ctrl-C ends it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pools.catalog.load import load_catalog
from pools.simulator import SimulatedPools
from pricing.clock import ScaledClock
from pricing.errors import FileProblem
from router.cli.measure import app
from router.measure.record import COLUMNS
from router.measure.subject import CannotMeasure
from support.scripted_server import DONE, ROLE, Exchange, frame, scripted, text_frame
from support.simulated import RATE_NUSD_PER_H, SPEEDUP

RUN = CliRunner()
POOL = "qwen3-4b-bf16-a10"
SHIPPED = load_catalog().pools[POOL]
SMALL = ["--requests", "4", "--concurrency", "2", "--prompt-tokens", "30", "--output-tokens", "2"]
MAIN = "from router.cli.main import main; main()"


async def answer(exchange: Exchange) -> None:
    if exchange.request.method == "GET":
        await exchange.answer("404 Not Found", b"{}")
        return
    await exchange.start_stream()
    usage = frame(choices=[], usage={"prompt_tokens": 30, "completion_tokens": 2})
    for piece in (ROLE, text_frame("a"), text_frame("b", "stop"), usage, DONE):
        await exchange.chunk(piece)
    await exchange.end_stream()


async def command(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """The command as a process of its own: status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, "measure", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a pool of the policy"),
        (["--url", "http://x"], "--url needs --model"),
        (["--url", "ftp://x", "--model", "m"], "must begin with https:// or http://"),
        ([POOL, "--url", "nowhere"], "must begin with https:// or http://"),
        ([POOL, "--requests", "0"], "'--requests'"),
        ([POOL, "--url", "http://x", "--usd-per-hour", "0.12345678912"], "--usd-per-hour: 0.12345678912 has more than"),
        ([POOL, "--timeout-s", "0"], "'--timeout-s'"),
        ([POOL, "--prompt-tokens", "9" * 30], "'--prompt-tokens'"),
        ([POOL, "--speedup", "inf"], "'--speedup'"),
        ([POOL, "--origin-us", "9" * 30], "'--origin-us'"),
        ([POOL, "--url", "http://x", "--key", "sk-test\n"], "--key has a letter that no header can carry"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], says: str) -> None:
    """With status 2 and the option to give, before anything is sent."""
    done = RUN.invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert says in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([POOL], f"pool '{POOL}' has no endpoint; add it under endpoints: in the policy, or give --url"),
        (["qwen3-4b-bf16-a1O"], f"did you mean '{POOL}'"),
        ([POOL, "--url", "http://x", "--prompt-tokens", "65536"], "are more than the 65536 of"),
        ([POOL, "--url", "http://x", "--concurrency", "500"], "requests at once"),
        ([POOL, "--url", "http://x", "--size", "512x512"], "makes texts, which have no size; leave it out"),
        (["flux-dev-bf16-l40s", "--url", "http://x", "--size", "wide"], "'size' is WIDTHxHEIGHT"),
        (["flux-dev-bf16-l40s", "--url", "http://x", "--seconds", "5"], "makes images, which have no seconds"),
        (["flux-dev-bf16-l40s", "--url", "http://x", "--row", "r.csv"], "--row is for models that make text"),
        (["flux-dev-bf16-l40s", "--url", "http://x", "--concurrency", "500"], "requests at once"),
        (["--url", "http://x", "--model", "m", "--steps", "4"], "name a pool of the policy"),
        ([POOL, "--url", "http://x", "--output", "none/o.json"], "there is no folder none"),
        ([POOL, "--url", "http://x", "--output", "."], ".: is a folder; name a file with --output"),
        ([POOL, "--url", "http://x", "--row", "none/r.csv"], "there is no folder none"),
        (["--url", "http://x", "--model", "m", "--row", "r.csv"], "--row needs a pool"),
        ([POOL, "--policy", "no-such-file.yaml"], "no-such-file.yaml"),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_first_request(arguments: list[str], says: str) -> None:
    """Unknown pools, loads that do not fit and files that cannot be written are errors with what to do."""
    done = RUN.invoke(app, arguments)
    assert isinstance(done.exception, CannotMeasure | FileProblem)
    assert says in str(done.exception)


async def test_any_server_is_measured_and_the_key_is_sent_and_never_shown(tmp_path: Path) -> None:
    """A URL and a model are enough; the document goes to the file, dollars come from the price that was given."""
    async with scripted(answer) as server:
        output = tmp_path / "measured.json"
        priced = ["--usd-per-hour", "3.60", "--output", str(output)]
        status, out, err = await command("--url", server.url, "--model", "m", *SMALL, *priced, SLUICE_KEY="sk-secret")
        assert (status, err) == (0, "")
        assert all(one.headers["authorization"] == "Bearer sk-secret" for one in server.received)
        assert all("ignore_eos" not in json.loads(one.body) for one in server.received if one.body)
    written = json.loads(output.read_text(encoding="utf-8"))
    assert (written["total_requests"], written["total_tokens"]) == (4, 8)
    seconds = written["sluice"]["cost"]["container_s"]
    assert written["sluice"]["cost"]["usd"] == pytest.approx(seconds * 0.001, abs=1e-9)
    assert "answers       4 of 4, errors 0.0%" in out
    assert "sk-secret" not in out + output.read_text(encoding="utf-8")


async def test_a_pool_at_another_address_is_compared_with_its_row(tmp_path: Path) -> None:
    """`--json` prints the document with the claims, and the row is added to the file."""
    rows = tmp_path / "rows.csv"
    origin_us = 1_795_000_000_000_000
    simulator = SimulatedPools([SHIPPED], {POOL: RATE_NUSD_PER_H}, ScaledClock(SPEEDUP, origin_us), 7)
    await simulator.start()
    clock = ["--speedup", str(SPEEDUP), "--origin-us", str(origin_us), "--timeout-s", "100000"]
    where = ["--url", simulator.pool_url(POOL), "--row", str(rows), "--json"]
    status, out, err = await command(POOL, *where, *SMALL, *clock)
    await simulator.stop()
    assert status == 0, err
    written = json.loads(out)
    assert written["sluice"]["pool"] == POOL
    assert written["sluice"]["engine_version"] == SHIPPED.engine_version
    assert written["sluice"]["machine"] == "1 × A10, 4 cores, 32 GiB"
    assert [one["what"] for one in written["sluice"]["claims"]][-1] == "all tokens, a second"
    head, line = rows.read_text(encoding="utf-8").splitlines()
    assert tuple(head.split(",")) == COLUMNS
    assert line.startswith("qwen3-4b,A10,bf16,1,30,2,")


async def test_ctrl_c_ends_it_with_what_was_measured() -> None:
    """An interrupt in the midst of the load: the answers so far are printed, the status is 130, no trace is shown."""
    seen = asyncio.Event()
    count = 0

    async def script(exchange: Exchange) -> None:
        nonlocal count
        count += exchange.request.method == "POST"
        if count > 3:  # the warm-up and two answers; then nothing more comes
            seen.set()
            await exchange.client_left()
        else:
            await answer(exchange)

    async with scripted(script) as server:
        arguments = ["--url", server.url, "--model", "m", *SMALL, "--json"]
        process: Any = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, "measure", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        await seen.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    written = json.loads(out)
    assert (written["total_requests"], written["successful_requests"]) == (2, 2)
    assert written["sluice"]["interrupted"] is True
    assert written["sluice"]["cancelled_requests"] in (1, 2)


async def test_a_first_answer_that_does_not_come_is_one_line_and_status_2() -> None:
    """A refusal at the first request is an error message without a trace."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("401 Unauthorized", b"{}")

    async with scripted(script) as server:
        status, out, err = await command("--url", server.url, "--model", "m", *SMALL)
    assert (status, out) == (2, "")
    assert err.startswith("sluice: no first answer (misconfigured: refuses our credentials (HTTP 401)")
    assert len(err.splitlines()) == 1


async def test_ctrl_c_before_the_first_answer_is_one_line_and_status_130() -> None:
    """While the pool is still silent there is nothing to print but that."""
    seen = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        seen.set()
        await exchange.client_left()

    async with scripted(script) as server:
        arguments = ["--url", server.url, "--model", "m", *SMALL]
        process: Any = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, "measure", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        await seen.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err == b"sluice: interrupted before the first answer; nothing was measured\n"
