"""`sluice alerts`: print the alert rules for Prometheus."""

from __future__ import annotations

import typer

from router.alerts import RULES

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def alerts() -> None:
    """Print a file of alert rules for Prometheus; docs/alerts.md explains each."""
    typer.echo(RULES.read_text(encoding="utf-8"), nl=False)
