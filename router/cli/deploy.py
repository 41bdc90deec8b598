"""`sluice deploy`: this endpoint itself on Modal, with its policy; `sluice deploy stop` ends it.

A plan needs no account. Everything else takes Modal's token from the environment or Modal's own file, and never asks
for a login.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from policies.deploy.pools import modal_settings
from policies.deploy.router import WantedRouter, wanted_router
from pools.modal.errors import ModalTrouble
from pools.modal.plan import Action, Deployed, tag_changes
from pricing.clock import SystemClock
from pricing.errors import FileProblem
from router.cli import deploy_view as view
from router.cli.options import WHOSE_FILES, policy_paths
from router.cli.pools_view import ACTIONS, note
from router.deploy.release import this_release

app = typer.Typer(add_completion=False, rich_markup_mode=None)

PolicyOption = Annotated[list[Path] | None, typer.Option("--policy", help=f"{WHOSE_FILES} It goes into the image.")]


@app.callback(invoke_without_command=True)
def deploy(
    context: typer.Context,
    policy: PolicyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deployed; change nothing.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="With --dry-run: ask Modal nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run this endpoint on Modal: containers over one Redis and one PostgreSQL, with the policy's files inside."""
    if context.invoked_subcommand is not None:
        return
    if offline and not dry_run:
        raise typer.BadParameter("--offline goes with --dry-run")
    wanted = wanted_router(policy_paths(policy), this_release(), SystemClock().wall_us())
    if dry_run:
        _show(view.Planned(wanted, *_compared(wanted, offline)), as_json)
        return
    _refuse_missing_secrets(wanted)
    planned = view.Planned(wanted, *_compared(wanted, offline=False))
    address = _deployed(planned)
    if as_json:
        _print({**planned.as_json(), "url": address})
    else:
        view.print_address(planned, address)


@app.command()
def stop(policy: PolicyOption = None) -> None:
    """Stop it: its containers end, and nothing of it bills. Running answers are cut; leases settle them."""
    from pools.modal import deploy as platform
    from pools.modal import deploy_router as router

    settings = modal_settings(policy_paths(policy))
    found = router.deployed_router(settings)
    if found is None:
        typer.echo("no router of this prefix is deployed")
        return
    platform.stop(found, settings)
    if router.deployed_router(settings) is not None:
        raise ModalTrouble(f"Modal still lists {found.app} as deployed; look at it in its dashboard, it may bill")
    typer.echo(f"stopped {found.app}; Redis, PostgreSQL and the Secrets are as they were")


def _compared(wanted: WantedRouter, offline: bool) -> tuple[Action, tuple[str, ...]]:
    """What deploying comes to, and what it would change."""
    from pools.modal import deploy as platform
    from pools.modal import deploy_router as router

    if offline or not platform.has_token():
        return Action.UNKNOWN, ()
    found: Deployed | None = router.deployed_router(wanted.settings)
    if found is None:
        return Action.CREATE, ()
    changes = tag_changes(found.tags, wanted.declaration.tags)
    return (Action.CHANGE if changes else Action.KEEP), changes


def _refuse_missing_secrets(wanted: WantedRouter) -> None:
    from pools.modal import deploy_router as router

    assert wanted.settings.router is not None  # or there would be nothing to deploy
    problems = list(router.router_secret_problems(wanted.settings.router, wanted.settings))
    if problems:
        raise FileProblem(problems)


def _deployed(planned: view.Planned) -> str | None:
    """Its address, after a deployment where there is something to deploy."""
    from pools.modal import deploy as platform
    from pools.modal import deploy_router as router

    wanted = planned.wanted
    if planned.action is Action.KEEP:
        return platform.address(wanted.declaration, wanted.settings)
    note(f"{ACTIONS[planned.action]} {wanted.declaration.app} …")
    return router.deploy_router(wanted.declaration, wanted.settings)


def _show(planned: view.Planned, as_json: bool) -> None:
    if as_json:
        _print(planned.as_json())
    else:
        view.print_plan(planned)


def _print(body: dict[str, Any]) -> None:
    typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
