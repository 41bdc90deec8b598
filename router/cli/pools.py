"""`sluice pools`: the pools of a policy on Modal: plan what would change, deploy it, see it, wake one, stop it.

Plans need no account. Everything else takes Modal's token from the environment or Modal's own file, and never asks for
a login.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.deploy.pools import Wanted, known_pools, modal_settings, wanted_pools
from pools.modal.check import secret_problems
from pools.modal.errors import ModalTrouble
from pools.modal.plan import Action, Deployed, Plan, make_plan
from pools.modal.settings import LastHour, ModalSettings
from pools.platform import PlatformUnavailable
from pricing.clock import SystemClock
from pricing.errors import FileProblem
from pricing.nearest import nearest
from router.cli import pools_view as view

if TYPE_CHECKING:  # the SDK takes a second to load, which plans do without
    from pools.modal.live import ModalPlatform
from router.cli.options import WHOSE_FILES, policy_paths

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Pools on Modal.")

NamesArgument = Annotated[list[str] | None, typer.Argument(help="Pools; all that the policy uses where none is given.")]
NamedArgument = Annotated[list[str] | None, typer.Argument(help="Pools that are deployed, or --all.")]
PolicyOption = Annotated[list[Path] | None, typer.Option("--policy", help=WHOSE_FILES)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Ask Modal nothing, also where there is a token.")]


@app.command()
def plan(
    names: NamesArgument = None,
    policy: PolicyOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what deploying would change, and what pools cost idle, per boot and per hour. Changes nothing."""
    wanted = _wanted(policy, names)
    planned = _plan(wanted, names, None if offline else _deployed_if_known(wanted))
    if as_json:
        _print(
            {
                "book": wanted.book,
                "steps": [step.as_json() for step in planned.steps],
                "left_over": _apps(planned.left_over),
                "left_out": list(wanted.left_out),
            }
        )
    else:
        view.print_plan(planned, wanted.book)
        for line in wanted.left_out:
            typer.echo(f"Left out: {line}")


@app.command()
def deploy(names: NamesArgument = None, policy: PolicyOption = None, as_json: JsonOption = False) -> None:
    """Deploy what a plan shows as changed; print the endpoints that a policy then needs."""
    from pools.modal import deploy as platform

    wanted = _wanted(policy, names)
    found = platform.existing_secrets(wanted.settings.secrets, wanted.settings)
    problems = list(secret_problems(wanted.settings.secrets, found, wanted.settings))
    if problems:
        raise FileProblem(problems)
    planned = _plan(wanted, names, platform.deployed(wanted.settings, wanted=_apps_of(wanted)))
    addresses: dict[str, str | None] = {}
    for step in planned.steps:
        if step.action is not Action.KEEP:
            view.note(f"{step.declaration.pool}: {view.ACTIONS[step.action]} {step.declaration.app} …")
            addresses[step.declaration.pool] = platform.deploy(step.declaration, wanted.settings)
        else:
            addresses[step.declaration.pool] = platform.address(step.declaration, wanted.settings)
    if as_json:
        _print({"endpoints": addresses, "left_over": _apps(planned.left_over)})
        return
    for line in view.left_over_lines(planned.left_over):
        view.note(line)
    typer.echo(view.endpoints_part(addresses))


@app.command()
def status(names: NamesArgument = None, policy: PolicyOption = None, as_json: JsonOption = False) -> None:
    """Show which pools are deployed, their containers, and what they cost at this moment. Wakes none."""
    from pools.modal import deploy as platform

    wanted = _wanted(policy, names)
    deployed = {each.app for each in platform.deployed(wanted.settings)}
    here = {each.pool for each in wanted.declarations if each.app in deployed}
    seen = asyncio.run(_seen(wanted, here))
    lines = view.status_lines(wanted, seen, SystemClock().wall_us())
    if as_json:
        _print({"pools": [line.as_json() for line in lines]})
    else:
        view.print_status(lines)


@app.command()
def stop(
    names: NamedArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Every App with this policy's prefix.")] = False,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="With --all: delete weights and compiled kernels too.")
    ] = False,
    policy: PolicyOption = None,
) -> None:
    """Stop pools: their containers end at once, with what runs in them. A deployment brings them back.

    One that cannot be stopped does not keep the others alive.
    """
    from pools.modal import deploy as platform

    if bool(names) == everything or (volumes and not everything):
        raise typer.BadParameter("name pools, or stop --all, with --volumes for what is stored as well")
    paths = policy_paths(policy)
    settings = modal_settings(paths)
    deployed = platform.deployed(settings)
    _refuse_unknown(names or (), [*(each.pool for each in deployed), *known_pools(paths)])
    chosen = [each for each in deployed if everything or each.pool in (names or ())]
    troubles = [trouble for each in chosen if (trouble := _stopped(each, settings)) is not None]
    for name in sorted(set(names or ()) - {each.pool for each in chosen}):
        typer.echo(f"{name}: not deployed")
    if troubles:
        raise ModalTrouble(f"{'; '.join(troubles)}. What was not stopped goes on billing: stop it again")
    if volumes:
        typer.echo(f"deleted Volumes {', '.join(platform.delete_volumes(settings))}")
    left = sorted({each.app for each in chosen} & {each.app for each in platform.deployed(settings)})
    if left:
        raise ModalTrouble(
            f"Modal still lists {', '.join(left)} as deployed; look at them in its dashboard, they may bill"
        )


@app.command()
def warmup(
    name: Annotated[str, typer.Argument(help="The pool to wake.")],
    policy: PolicyOption = None,
    timeout_s: Annotated[float | None, typer.Option(min=1, help="Default: twice the boot model.")] = None,
) -> None:
    """Wake a pool without a router, and wait until it serves. Costs its boot and its scale-down window."""
    wanted = _wanted(policy, [name])
    limit_s = timeout_s or 2 * wanted.costs[name].boot_s
    began_s = time.monotonic()
    if not asyncio.run(_warm(wanted, name, limit_s)):
        raise ModalTrouble(f"'{name}' did not serve within {limit_s:.0f} s; its log in Modal's dashboard says why")
    typer.echo(f"{name} is ready after {time.monotonic() - began_s:.0f} s")


def _refuse_unknown(names: Sequence[str], known: Sequence[str]) -> None:
    """Before anything is stopped: a pool that is misspelt goes on billing. `known` are those deployed, whatever the
    files say of them, and those that could be.
    """
    for name in names:
        if name not in known:
            hint = nearest(name, known) or "; `sluice pools status` shows those of the policy"
            raise typer.BadParameter(f"no pool '{name}' is deployed or known{hint}")


def _stopped(app: Deployed, settings: ModalSettings) -> str | None:
    """What went wrong, so that the next one is stopped all the same."""
    from pools.modal import deploy as platform

    try:
        platform.stop(app, settings)
    except ModalTrouble as trouble:
        return str(trouble)
    typer.echo(f"{app.pool}: stopped {app.app}")
    return None


def _wanted(policy: list[Path] | None, names: Sequence[str] | None) -> Wanted:
    return wanted_pools(policy_paths(policy), names or [], SystemClock().wall_us())


def _plan(wanted: Wanted, names: Sequence[str] | None, deployed: Sequence[Deployed] | None) -> Plan:
    """Apps that nobody asks for are told where the whole policy was meant."""
    if names and deployed is not None:
        deployed = [each for each in deployed if each.app in _apps_of(wanted)]
    return make_plan(wanted.declarations, wanted.costs, deployed)


def _apps_of(wanted: Wanted) -> set[str]:
    return {each.app for each in wanted.declarations}


def _deployed_if_known(wanted: Wanted) -> Sequence[Deployed] | None:
    from pools.modal import deploy as platform

    return platform.deployed(wanted.settings, wanted=_apps_of(wanted)) if platform.has_token() else None


async def _seen(wanted: Wanted, here: set[str]) -> dict[str, view.Seen]:
    """Containers and the last hour of the pools that are deployed; what Modal does not say is None, and why is said.

    Raises PlatformUnavailable where it says nothing of any pool.
    """
    from pools.modal.live import ModalPlatform

    platform = ModalPlatform(wanted.watched(), wanted.settings, SystemClock())
    try:
        listed = await platform.look()
    except PlatformUnavailable as trouble:
        if not trouble.listed:
            raise
        listed = trouble.listed
        view.note(f"not all containers are known: {trouble}")
    return {
        name: view.Seen(listed.get(name), await _last_hour(platform, name)) for name in wanted.pools if name in here
    }


async def _last_hour(platform: ModalPlatform, name: str) -> LastHour | None:
    try:
        return await platform.last_hour(name)
    except PlatformUnavailable as trouble:
        view.note(f"the last hour of {name} is not known: {trouble}")
        return None


async def _warm(wanted: Wanted, name: str, limit_s: float) -> bool:
    """Wake one and look until it serves; the lease is taken back either way."""
    from pools.modal.live import LOOK_S, ModalPlatform

    clock = SystemClock()
    platform = ModalPlatform(wanted.watched(), wanted.settings, clock)
    try:
        async with asyncio.timeout(limit_s):
            await platform.wake(name)
            while not any(info.state == "ready" for info in (await platform.containers())[name]):
                await clock.sleep(LOOK_S)
    except TimeoutError:
        return False
    finally:
        await platform.aclose()
    return True


def _apps(deployed: Sequence[Deployed]) -> list[dict[str, str]]:
    return [{"app": each.app, "pool": each.pool} for each in deployed]


def _print(body: dict[str, Any]) -> None:
    typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
