"""The command `sluice`: one file per verb beside this one, imported only when it is called.

A verb is one file `router/cli/<verb>.py` that holds a typer app named `app`, and one line in `VERBS`.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import importlib.metadata
import io
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from pricing.errors import FileProblem, SluiceError
from router.cli.helped import explained

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

VERBS: Final[dict[str, str]] = {
    "serve": "Run the endpoint.",
    "demo": "Simulated pools, the endpoint and real traffic, end to end, in under two minutes.",
    "check": "Say whether policy, price and pool files are right.",
    "explain": "Show which pool a request would get, or got, and why.",
    "report": "What was spent, by tenant, pool, class, tier or day.",
    "focus": "Export the ledger in the columns of FOCUS 1.2.",
    "reconcile": "Compare the ledger with the provider's bill, and make them equal.",
    "budget": "Show caps, change one, or raise one for a while.",
    "alerts": "Print alert rules for Prometheus, or a dashboard for Grafana.",
    "ledger": "Verify that budgets, ledger and meter agree; show what waits.",
    "policy": "Show which policies were in force, and what each changed.",
    "train": "Train a model of output tokens on the ledger, and test it.",
    "measure": "Measure a pool under a fixed load, beside what the catalogue claims.",
    "prices": "Show a price book, compare two, or list where sources disagree.",
    "warmup": "Wake a pool through a running endpoint.",
    "pools": "Plan, deploy, see, wake and stop the pools on Modal.",
    "deploy": "Plan, deploy and stop this endpoint itself on Modal.",
    "simulate": "Run simulated pools that answer like vLLM.",
}


class LazyVerbs(TyperGroup):
    """Loads a verb's module when the verb is called, so that `sluice --help` imports none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"router.cli.{cmd_name}")
        return explained(typer.main.get_command(module.app), ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{close[0]}'?" if close else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as bad:
            bad.message = bad.message.removeprefix("Value error, ")  # of the library that parses for typer
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=LazyVerbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # a fault of ours is a plain traceback: nothing of what ran is in it
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluice {importlib.metadata.version('sluice')}")
        raise typer.Exit


@app.callback()
def sluice(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Send each request to the cheapest GPU pool that can serve it, and account for every GPU-second."""


def main() -> None:
    """Entry point: errors that the project raises on purpose are printed without a traceback, exit status 2.

    A terminal whose encoding lacks a letter shows its escape; a full disk behind the output is status 1, as is a pipe
    that nobody reads to its end.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except FileProblem as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        sys.exit(2)
    except SluiceError as error:
        print(f"sluice: {error}", file=sys.stderr)
        sys.exit(2)
    except UnicodeEncodeError:
        if all(word.isprintable() for word in sys.argv):
            raise
        print("sluice: a word of the command line is no text; only names of files may hold such bytes", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"sluice: cannot write: {error.strerror}", file=sys.stderr)
        sys.stdout = None  # what is left in it cannot be written either
        sys.exit(1)
