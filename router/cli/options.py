"""What the verbs about money share: the option that names the ledger, and where wide tables are drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from pricing.ledger.place import LedgerPlace, parse_ledger
from router.service.settings import policy_paths_of

WIDTH: Final = 160  # columns, where a terminal has fewer or there is none
WHOSE_FILES: Final = "Policy file or folder; else SLUICE_POLICY, else the shipped one."
DEFAULT_LEDGER: Final = "sluice.sqlite"


def _place(text: object) -> LedgerPlace:
    try:
        return parse_ledger(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


# A LedgerPlace; typer knows no unions.
LedgerOption = Annotated[
    Any,
    typer.Option(
        "--ledger", envvar="SLUICE_LEDGER", metavar="PLACE", parser=_place, help="File or postgresql:// address."
    ),
]
RedisOption = Annotated[
    str | None, typer.Option("--redis", envvar="SLUICE_REDIS_URL", help="Redis, where replicas share the ledger.")
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", envvar="SLUICE_REDIS_NAMESPACE", help="What their keys in Redis begin with.")
]


SpeedupOption = Annotated[
    float, typer.Option(min=0.01, max=10_000, help="Only with simulated pools: how much faster than life.")
]
OriginOption = Annotated[
    int | None,
    typer.Option(min=0, max=2**53, help="Instant at which scaled and real time agree, shared by processes."),
]


def fitting_console() -> Console:
    """As wide as the terminal, or as COLUMNS says; wide where neither is known, as in a pipe. For what fits itself."""
    screen = Console(highlight=False)
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen.width = WIDTH
    return screen


def wide_console() -> Console:
    """Wide enough that no amount is cut: a narrow terminal breaks the lines, which loses nothing."""
    screen = Console(highlight=False)
    screen.width = max(screen.width, WIDTH) if screen.is_terminal else WIDTH
    return screen


def policy_paths(given: Sequence[Path] | None) -> tuple[Path, ...]:
    """What `--policy` names, else what SLUICE_POLICY does; nothing means the shipped policy."""
    return tuple(given or policy_paths_of(os.environ))
