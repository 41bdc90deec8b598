"""`sluice measure`: what a pool does under a fixed load, what that costs, and how far the catalogue is from it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from policies.compile.endpoints import fits_header, is_http_url
from policies.compile.load import load_policy
from policies.policy import Policy, PoolEndpoint
from pools.media import MediaAsked
from pools.spec import PoolSpec
from pools.wire.http import HttpBackend, make_session
from pricing.clock import Clock, ScaledClock, SystemClock
from pricing.money import parse_usd
from pricing.nearest import nearest
from router.cli.options import WHOSE_FILES, OriginOption, SpeedupOption, policy_paths
from router.cli.prices_view import console
from router.measure.cold import LOOK_S
from router.measure.media import REQUESTS, asked_of
from router.measure.progress import watching
from router.measure.record import add_row, check_rows, document, row
from router.measure.result import Measurement
from router.measure.run import Measuring
from router.measure.subject import PATIENCE_S, CannotMeasure, Shape, Stopped, Subject, check_shape
from router.measure.table import render
from router.service.platforms import platform_of, poll_every_s

INTERRUPTED = 130  # exit status of what Ctrl-C ended, as shells have it

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Access:
    """How the endpoint is reached: `key` as a bearer token, more headers. `policy` says who lists its containers."""

    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    policy: Policy | None = None


@app.command()
def measure(
    pool: Annotated[str | None, typer.Argument(help="A pool of the policy.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="How many; 50, of clips 5.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="How many at a time; 10, of pictures and clips 1.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=10_000_000, help="Of each prompt.")] = 128,
    output_tokens: Annotated[int, typer.Option(min=1, max=10_000_000, help="Of each answer, at most.")] = 256,
    size: Annotated[str | None, typer.Option(help="Of pictures and clips, 1024x768 say; else the model's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; else the model's own.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Of a clip; else the model's own.")] = None,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 0,
    exact_length: Annotated[
        bool | None, typer.Option(help="Ask with ignore_eos for all output tokens; by default of vLLM pools only.")
    ] = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start", help="Wait for scale-down, time the first answer.")
    ] = False,
    wait_s: Annotated[
        float | None, typer.Option(min=0, help="Give up waiting for scale-down, or where nobody tells, wait so long.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Patience with one request.")] = PATIENCE_S,
    url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, instead of the pool's endpoint.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="What that server calls the model.")] = None,
    key: Annotated[str | None, typer.Option(envvar="SLUICE_KEY", help="API key for --url.")] = None,
    usd_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of it; else the pool's, by the book.")
    ] = None,
    policy: Annotated[list[Path] | None, typer.Option(help=WHOSE_FILES)] = None,
    machine: Annotated[str | None, typer.Option(help="What it runs on, for the record; else the pool's row.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the JSON document to this file.")] = None,
    row_file: Annotated[Path | None, typer.Option("--row", help="Add the calibrating row to this CSV file.")] = None,
    print_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
    speedup: SpeedupOption = 1.0,
    origin_us: OriginOption = None,
) -> None:
    """Measure a pool, or any OpenAI-compatible server: latency, first token, tokens a second, errors, dollars.

    Of pools that make pictures or clips: how long one takes, and what it costs.

    Ctrl-C ends it with what was measured so far, and status 130.
    """
    clock = SystemClock() if speedup == 1 else ScaledClock(speedup, origin_us)
    if not fits_header(key or ""):
        raise typer.BadParameter("--key has a letter that no header can carry, such as a line break; write it again")
    if pool is None:
        subject, access = _server(url, model, key, machine), Access(key)
        exact_length = bool(exact_length)
    else:
        subject, access = _pool(pool, url, model, key, machine, policy_paths(policy), clock)
        exact_length = _is_vllm(subject.pool) if exact_length is None else exact_length
    if usd_per_hour is not None:
        subject = _priced(subject, usd_per_hour)
    media = _media(subject.pool, {"size": size, "num_inference_steps": steps, "seconds": seconds})
    shape = Shape(
        requests or (50 if media is None else REQUESTS[media.kind]),
        concurrency or (10 if media is None else 1),
        prompt_tokens,
        output_tokens,
        seed,
        exact_length,
        timeout_s,
        media,
    )
    _check(subject, shape, output, row_file)
    try:
        measured = uvloop.run(_measure(subject, access, shape, clock, cold_start, wait_s))
    except Stopped as stopped:
        typer.echo(f"sluice: {stopped}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _write(measured, output)
    typer.echo(json.dumps(document(measured), indent=2)) if print_json else console().print(render(measured))
    if row_file is not None and not measured.interrupted:  # half a load is no calibration
        add_row(row_file, row(measured))
    if measured.interrupted:
        raise typer.Exit(INTERRUPTED)


def _server(url: str | None, model: str | None, key: str | None, machine: str | None) -> Subject:
    """A server that no catalogue knows."""
    if url is None:
        raise typer.BadParameter("name a pool of the policy (sluice measure POOL), or a server with --url and --model")
    if model is None:
        raise typer.BadParameter("--url needs --model: what the server calls it, as its /v1/models lists")
    return Subject(_checked(url), model, machine=machine or "not stated")


def _pool(
    name: str,
    url: str | None,
    model: str | None,
    key: str | None,
    machine: str | None,
    paths: Sequence[Path],
    clock: Clock,
) -> tuple[Subject, Access]:
    """A pool of the policy at its endpoint, or at `url`, which then gets `key` and none of the endpoint's secrets."""
    policy = load_policy(paths, environ=os.environ, now_us=clock.wall_us(), assume_deployed=url is not None)
    spec = policy.pools.get(name)
    if spec is None:
        hint = nearest(name, policy.pools) or f"; it has {', '.join(sorted(policy.pools))}"
        raise CannotMeasure(f"no pool '{name}' in this policy{hint}")
    if spec.terms is not None:
        text = "it has no GPU whose seconds could be measured; write first_token_s and tokens_per_s"
        raise CannotMeasure(f"pool '{name}' is billed by the token: {text}")
    endpoint = _endpoint(policy, name, url, key)
    rate = policy.rates[name]
    subject = Subject(
        endpoint.url,
        model or spec.served_model_name,
        pool=spec,
        boot_s=policy.boots_s[name],
        rate_nusd_per_h=rate.nusd_per_h,
        rate=rate,
        always_on=endpoint.always_on,
        machine=machine or f"{spec.gpu_count} × {spec.gpu.id}, {spec.cpu_cores:g} cores, {spec.memory_gib:g} GiB",
    )
    return subject, Access(endpoint.api_key, endpoint.headers, policy if url is None else None)


def _endpoint(policy: Policy, name: str, url: str | None, key: str | None) -> PoolEndpoint:
    if url is not None:
        return PoolEndpoint(name, _checked(url), key)
    if name not in policy.endpoints:
        raise CannotMeasure(f"pool '{name}' has no endpoint; add it under endpoints: in the policy, or give --url")
    return policy.endpoints[name]


def _checked(url: str) -> str:
    if not is_http_url(url):
        raise typer.BadParameter("--url must begin with https:// or http:// and name a host")
    return url


def _media(pool: PoolSpec | None, given: Mapping[str, str | int | float | None]) -> MediaAsked | None:
    """What is asked of a media pool. Raises CannotMeasure."""
    if pool is not None:
        return asked_of(pool, given)
    if any(value is not None for value in given.values()):
        raise CannotMeasure(
            "--size, --steps and --seconds are of a pool's pictures and clips; name a pool of the policy"
        )
    return None


def _is_vllm(spec: PoolSpec | None) -> bool:
    return spec is not None and spec.engine == "vllm"


def _priced(subject: Subject, usd_per_hour: float) -> Subject:
    """At the price of the command line, which no book states."""
    try:
        return replace(subject, rate_nusd_per_h=parse_usd(usd_per_hour), rate=None)
    except ValueError as error:
        raise typer.BadParameter(f"--usd-per-hour: {error}") from None


def _check(subject: Subject, shape: Shape, output: Path | None, row_file: Path | None) -> None:
    """All that can be known to go wrong before the first request. Raises CannotMeasure."""
    if subject.pool is not None:
        check_shape(shape, subject.pool)
    if output is not None and not output.parent.is_dir():
        raise CannotMeasure(f"{output}: there is no folder {output.parent}; make it first")
    if output is not None and output.is_dir():
        raise CannotMeasure(f"{output}: is a folder; name a file with --output")
    if row_file is not None:
        if subject.pool is None:
            raise CannotMeasure("--row needs a pool: a row says for which model and GPU it was measured")
        if shape.media is not None:
            raise CannotMeasure("--row is for models that make text; of pictures the table has seconds_per_item")
        check_rows(row_file)


async def _measure(
    subject: Subject, access: Access, shape: Shape, clock: Clock, cold: bool, wait_s: float | None
) -> Measurement:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with make_session() as session:
        # A bare 503 means that no container is there yet: nobody but us looks at this pool.
        backend = HttpBackend(
            subject.url, session, clock, api_key=access.key, headers=access.headers, believed_asleep=lambda: True
        )
        platform, look_s = None, LOOK_S
        if access.policy is not None:
            platform = platform_of(access.policy, None, session, clock)
            look_s = poll_every_s(access.policy, LOOK_S)
        try:
            with watching(Console(stderr=True), shape.requests) as watch:
                measuring = Measuring(subject, shape, backend, platform, clock, stop, watch, look_s)
                return await measuring.run(cold=cold, wait_s=wait_s)
        finally:
            if platform is not None:
                await platform.aclose()


def _write(measured: Measurement, output: Path | None) -> None:
    if output is None:
        return
    try:
        output.write_text(json.dumps(document(measured), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CannotMeasure(f"{output}: {error.strerror}; name another file with --output") from None
