"""How `sluice pools` shows plans and what is alive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import typer
from rich.table import Table

from policies.deploy.pools import Wanted
from pools.modal.plan import Action, Deployed, Plan, Step
from pools.modal.settings import LastHour
from pools.platform import ContainerInfo
from pricing.clock import US_PER_S
from pricing.money import format_usd
from router.cli.options import wide_console

ACTIONS: Final[Mapping[Action, str]] = {
    Action.CREATE: "deploy",
    Action.CHANGE: "change",
    Action.KEEP: "keep",
    Action.UNKNOWN: "?",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What Modal says of a deployed pool; None is what it does not say now."""

    containers: tuple[ContainerInfo, ...] | None
    last_hour: LastHour | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One pool now. `seen` is None where it is not deployed; the rate is what its containers cost, nano-dollars: those
    that are ready as if they served, and those that boot unless boots are free.
    """

    pool: str
    app: str
    seen: Seen | None
    nusd_per_h: int
    oldest_s: float

    @property
    def containers(self) -> tuple[ContainerInfo, ...]:
        return () if self.seen is None or self.seen.containers is None else self.seen.containers

    @property
    def state(self) -> str:
        if self.seen is None:
            return "not deployed"
        if self.seen.containers is None:
            return "not known"
        return "awake" if self.seen.containers else "asleep"

    @property
    def last_hour(self) -> LastHour | None:
        return None if self.seen is None else self.seen.last_hour

    @property
    def ready(self) -> int:
        return sum(info.state == "ready" for info in self.containers)

    @property
    def booting(self) -> int:
        return len(self.containers) - self.ready

    @property
    def refused(self) -> int:
        """Requests of the last hour that met no container, or full ones."""
        return 0 if self.last_hour is None else sum(self.last_hour.by_status.get(code, 0) for code in (429, 503))

    @property
    def requests(self) -> int:
        return 0 if self.last_hour is None else self.last_hour.requests

    def as_json(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "app": self.app,
            "deployed": self.seen is not None,
            "containers_known": self.seen is None or self.seen.containers is not None,
            "ready": self.ready,
            "booting": self.booting,
            "oldest_s": round(self.oldest_s, 1),
            "nusd_per_h": self.nusd_per_h,
            "last_hour": None if self.last_hour is None else asdict(self.last_hour),
        }


def print_plan(plan: Plan, book: str) -> None:
    """One line a pool, then what it comes to."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "pool",
        "",
        "GPU",
        "containers",
        "target/max",
        "$/h each",
        "idle $/h",
        "boot",
        "a boot",
        "idle tail",
    ):
        table.add_column(heading, justify="right" if heading[-2:] in ("/h", "ch", "ot", "il") else "left", no_wrap=True)
    for step in plan.steps:
        table.add_row(*_cells(step))
    console = wide_console()
    console.print(table)
    for step in plan.steps:
        for change in step.changes:
            console.print(f"{step.declaration.pool}: {change}")
    for line in left_over_lines(plan.left_over):
        typer.echo(line)
    if any(step.action is Action.UNKNOWN for step in plan.steps):
        console.print("Not compared with what is deployed: Modal was not asked.")
    count = len(plan.to_deploy)
    console.print(
        f"{count} of {len(plan.steps)} to deploy; {format_usd(plan.idle_nusd_per_h, 2)} an hour while nothing runs "
        f"(prices: {book})."
    )


def left_over_lines(left_over: Sequence[Deployed]) -> list[str]:
    return [
        f"{each.app} is deployed and no pool of this policy: `sluice pools stop {each.pool}` ends it"
        for each in left_over
    ]


def note(text: str) -> None:
    """Progress, beside what is printed."""
    typer.echo(text, err=True)


def endpoints_part(addresses: Mapping[str, str | None]) -> str:
    """The part of a policy file by which the router reaches these pools. Keys stay in the environment."""
    lines = ["endpoints:"]
    for pool, address in addresses.items():
        lines += [
            f"  {_key(pool)}:",
            f"    url: {address or 'https://…  # Modal gave no address; see its dashboard'}",
            '    headers: {Modal-Key: "${MODAL_PROXY_KEY}", Modal-Secret: "${MODAL_PROXY_SECRET}"}',
        ]
    return "\n".join(lines)


def _key(pool: str) -> str:
    """A pool's name as a key of a file: in quotes where it would be read as a number or a word of YAML's own."""
    plain = pool[:1].isalpha() and pool.lower() not in ("null", "true", "false")
    return pool if plain else f'"{pool}"'


def status_lines(wanted: Wanted, seen: Mapping[str, Seen], now_us: int) -> list[Standing]:
    """All pools that are wanted; those that are not in `seen` are not deployed."""
    lines = []
    for declaration in wanted.declarations:
        found = seen.get(declaration.pool)
        infos = () if found is None or found.containers is None else found.containers
        oldest_us = min((info.started_us for info in infos), default=now_us)
        cost = wanted.costs[declaration.pool]
        paid = [info for info in infos if info.state == "ready" or cost.billed.boot]
        rate = cost.rate_nusd_per_h * len(paid)
        lines.append(Standing(declaration.pool, declaration.app, found, rate, max(0, now_us - oldest_us) / US_PER_S))
    return lines


def print_status(lines: Sequence[Standing]) -> None:
    """One line a pool, then the sum. Requests are of the last hour, as Modal counts them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("pool", "state", "ready", "booting", "oldest", "$/h now", "requests", "429/503"):
        table.add_column(heading, justify="left" if heading in ("pool", "state") else "right", no_wrap=True)
    for line in lines:
        age = f"{line.oldest_s:.0f} s" if line.containers else ""
        counts = ("?", "?", "", "?")
        if line.state != "not known":
            counts = (str(line.ready), str(line.booting), age, format_usd(line.nusd_per_h, 2))
        unknown = line.seen is not None and line.last_hour is None
        hour = ("?", "?") if unknown else (str(line.requests), str(line.refused))
        table.add_row(line.pool, line.state, *counts, *hour)
    console = wide_console()
    console.print(table)
    hidden = sum(line.state == "not known" for line in lines)
    without = f", without {hidden} not known" if hidden else ""
    console.print(f"{format_usd(sum(line.nusd_per_h for line in lines), 2)} an hour now{without}.")


def _cells(step: Step) -> tuple[str, ...]:
    declared = step.declaration
    return (
        declared.pool,
        ACTIONS[step.action],
        declared.gpu,
        f"{declared.min_containers}-{declared.max_containers}",
        f"{declared.target_concurrency}/{declared.max_concurrency}",
        format_usd(step.rate_nusd_per_h, 2),
        format_usd(step.idle_nusd_per_h, 2),
        f"{step.boot_s:.0f} s",
        format_usd(step.boot_nusd, 3),
        format_usd(step.tail_nusd, 3),
    )
