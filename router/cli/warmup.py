"""`sluice warmup`: wake a pool through a running endpoint, and say when it will be ready."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from router.cli.remote import post_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def warmup(
    model: Annotated[str | None, typer.Argument(help="Class, class:tier or alias; the pool it would get.")] = None,
    pool: Annotated[str | None, typer.Option(help="Instead: this pool.")] = None,
    url: Annotated[str, typer.Option(help="The running endpoint.")] = "http://127.0.0.1:8080",
    key: Annotated[str | None, typer.Option(envvar="SLUICE_KEY", help="API key with the right 'warmup'.")] = None,
    print_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Wake a pool before it is needed. Costs its boot and its idle time."""
    if (model is None) == (pool is None):
        raise typer.BadParameter("name a model (sluice warmup chat:premium) or a pool (--pool NAME)")
    answer = post_json(url, "/warmup", key, {"pool": pool} if pool else {"model": model})
    if print_json:
        typer.echo(json.dumps(answer, indent=2))
    elif answer["status"] == "ready":
        typer.echo(f"{answer['pool']} is ready")
    else:
        typer.echo(f"{answer['pool']} is starting, ready in about {answer['expected_ready_in_s']:.0f} s")
