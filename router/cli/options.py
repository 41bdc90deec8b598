"""What the verbs about money share: the option that names the ledger, and where wide tables are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

WIDTH: Final = 160  # columns, where a terminal has fewer or there is none
DEFAULT_LEDGER: Final = Path("sluice.sqlite")
LedgerOption = Annotated[Path, typer.Option("--ledger", envvar="SLUICE_LEDGER", help="The ledger file.")]


def wide_console() -> Console:
    """Wide enough that no amount is cut: a narrow terminal breaks the lines, which loses nothing."""
    screen = Console(highlight=False)
    screen.width = max(screen.width, WIDTH) if screen.is_terminal else WIDTH
    return screen
