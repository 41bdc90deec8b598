"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_LEDGER: Final = Path("sluice.sqlite")
LedgerOption = Annotated[Path, typer.Option("--ledger", envvar="SLUICE_LEDGER", help="The ledger file.")]
