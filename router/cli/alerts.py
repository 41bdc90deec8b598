"""`sluice alerts`: print the alert rules for Prometheus, or the dashboard for Grafana."""

from __future__ import annotations

from typing import Annotated

import typer

from router.alerts import GRAFANA, RULES

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def alerts(
    grafana: Annotated[
        bool, typer.Option("--grafana", help="A dashboard for Grafana instead; docs/metrics.md says how.")
    ] = False,
) -> None:
    """Print a file of alert rules for Prometheus; docs/alerts.md explains each."""
    typer.echo((GRAFANA if grafana else RULES).read_text(encoding="utf-8"), nl=False)
