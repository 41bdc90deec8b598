"""How `sluice deploy` shows what it would deploy and what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import typer

from policies.deploy.router import WantedRouter
from pools.modal.plan import Action
from pricing.money import format_usd
from router.cli.pools_view import ACTIONS

HOURS_A_DAY: Final = 24


@dataclass(frozen=True, slots=True)
class Planned:
    """A router, what deploying it comes to, and what that would change."""

    wanted: WantedRouter
    action: Action
    changes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "action": str(self.action),
            "changes": list(self.changes),
            "rate_nusd_per_h": self.wanted.rate_nusd_per_h,
            "idle_nusd_per_h": self.wanted.idle_nusd_per_h,
            "price_book": self.wanted.book,
            "notes": list(self.wanted.notes),
            "declaration": self.wanted.declaration.as_json(),
        }


def print_plan(planned: Planned) -> None:
    """What would be deployed, line by line, and what it costs."""
    lines = list(_lines(planned.wanted))
    width = max(len(name) for name, _ in lines)
    typer.echo(f"{ACTIONS[planned.action]} {planned.wanted.declaration.app}")
    for name, text in lines:
        typer.echo(f"  {name:{width}}  {text}")
    for change in planned.changes:
        typer.echo(f"changes {change}")
    for text in planned.wanted.notes:
        typer.echo(text)
    if planned.action is Action.UNKNOWN:
        typer.echo("Not compared with what is deployed: Modal was not asked.")
    typer.echo(_cost(planned.wanted))


def print_address(planned: Planned, address: str | None) -> None:
    """Where it answers, and how to see that it does."""
    declared = planned.wanted.declaration
    if planned.action is Action.KEEP:
        typer.echo(f"{declared.app} is deployed as it should be")
    if address is None:
        typer.echo("Modal gave no address; see its dashboard")
        return
    typer.echo(f"sluice serves {address}/v1  (policy {declared.tags['policy']}, {declared.min_containers} containers)")
    typer.echo(f"ready once {address}/health/readiness answers 200; `sluice deploy stop` ends it")
    for text in planned.wanted.notes:
        typer.echo(text)


def _lines(wanted: WantedRouter) -> Iterator[tuple[str, str]]:
    declared = wanted.declaration
    where = declared.compute_region or "anywhere"
    taken = "never taken away" if declared.nonpreemptible else "may be taken away"
    yield "containers", f"{declared.min_containers}-{declared.max_containers}, {where}, {taken}"
    yield "each", f"{declared.cpu_cores:g} CPU, {declared.memory_mib} MiB, {format_usd(wanted.rate_nusd_per_h, 4)}/h"
    yield "requests", f"scales at {declared.target_concurrency}, refuses above {declared.max_concurrency} a container"
    yield "stop", f"answers may end within {declared.exit_grace_s} s, then SIGTERM"
    yield "access", "API keys, and Modal's proxy token" if declared.authenticated else "API keys"
    for name, variables in declared.secrets.items():
        yield f"Secret {name}", ", ".join(variables)
    yield "policy", ", ".join(file.remote for file in declared.files)
    yield "release", f"{declared.release.version}, sources {declared.tags['sources']}"


def _cost(wanted: WantedRouter) -> str:
    """Modal bills what is asked for or what is used, whichever is more; Redis and PostgreSQL are not in it."""
    idle, most = wanted.idle_nusd_per_h, wanted.rate_nusd_per_h * wanted.declaration.max_containers
    return (
        f"{format_usd(idle, 4)} an hour, {format_usd(idle * HOURS_A_DAY, 2)} a day while nobody asks, at most "
        f"{format_usd(most, 4)} an hour (prices: {wanted.book}); Redis and PostgreSQL are extra."
    )
