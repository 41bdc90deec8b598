"""The tables at the end of a run. Nothing is decided here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policies.policy import Policy
from pricing.ledger.rows import House
from pricing.money import format_usd
from router.demo.books import PHASES, gap
from router.demo.load import Outcome
from router.demo.summary import Summary, problems_of
from router.demo.verdict import Verdict

USD_DIGITS: Final = 4
MEANING: Final[dict[str, str]] = {
    House.BOOT: "containers starting",
    House.IDLE: "containers with nothing to serve",
    House.FAILED: "attempts that pools failed",
    House.OVERRUN: "work beyond a budget's end",
    House.ADJUSTMENT: "containers learnt of late",
}
"""What the house pays for, in words."""


def show(screen: Console, policy: Policy, summary: Summary) -> None:
    """Print the whole summary, and at its end whether everything holds."""
    sections = (
        ("Requests by pool and tier", _by_pool(policy, summary)),
        ("What went wrong", _trouble(summary)),
        ("Caps", _caps(summary)),
        ("Cost by tenant", _by_tenant(summary)),
        ("The router's ledger beside the pools' own bill", _sides(policy, summary)),
    )
    screen.print(f"\n{_headline(summary)}")
    for title, table in sections:
        screen.print(f"\n[bold]{title}[/]")
        screen.print(table)
    screen.print(_saving(policy, summary))
    _verdict(screen, summary)


def _headline(summary: Summary) -> str:
    counts = ", ".join(f"{summary.count(verdict):,} {verdict}" for verdict in Verdict)
    minutes, seconds = divmod(round(summary.simulated_s), 60)
    return (
        f"[bold]{len(summary.outcomes):,} requests: {counts}[/]\n"
        f"{minutes} min {seconds} s of pool time in {summary.real_s:.0f} s, "
        f"{summary.speedup:g} times life speed, seed {summary.seed}"
    )


def _table(left: Iterable[str], right: Iterable[str] = (), last: str | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    if last is not None:
        table.add_column(last)
    return table


def _by_pool(policy: Policy, summary: Summary) -> Table:
    """Every request once, under the pool that answered or was tried last; the median first token is of streams."""
    groups: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in summary.outcomes:
        groups[outcome.pool, outcome.planned.tier if not outcome.pool else outcome.tier].append(outcome)
    table = _table(("pool", "GPU", "tier"), ("requests", "served", "refused", "broken", "lost", "first token"))
    order = {pool: index for index, pool in enumerate(policy.pools)}
    for (pool, tier), found in sorted(groups.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0])):
        counts = [sum(one.judged.verdict is verdict for one in found) for verdict in Verdict]
        waits = [one.first_byte_s for one in found if one.planned.stream and one.first_byte_s is not None]
        gpu = policy.pools[pool].gpu.id if pool else "–"
        table.add_row(
            pool or "no pool",
            gpu,
            tier,
            f"{len(found):,}",
            *(f"{count:,}" if count else "·" for count in counts),
            f"{median(waits):.1f} s" if waits and pool else "–",
        )
    return table


def _trouble(summary: Summary) -> Table:
    """What was done to the pools, then what the router and the clients made of it."""
    table = _table(("what", "where"), ("times",), "and then")
    for struck in summary.struck:
        table.add_row(f"ordered: {struck.mishap.name}", struck.pool, "1", f"{struck.at_s:.0f} s after the start")
    for cause, count in sorted(summary.sums.fallbacks.items()):
        table.add_row(f"fallback: {cause}", "", str(count), "another pool was tried")
    for how, count in summary.sums.continued.items():
        if count:
            table.add_row("stream that broke", "", str(count), _WENT_ON[how])
    for verdict in (Verdict.BROKEN, Verdict.REFUSED, Verdict.LOST):
        for why, count in summary.reasons(verdict).most_common():
            table.add_row(escape(f"{verdict}: {why}"), "", str(count), _AFTERMATH[verdict])
    return table


_WENT_ON: Final = {
    "tokens": "it went on at another pool, exactly",
    "text": "it went on at another pool, from the text",
}
_AFTERMATH: Final = {
    Verdict.BROKEN: "the stream ended with an error event",
    Verdict.REFUSED: "the client got an OpenAI error",
    Verdict.LOST: "the client got nothing it could read",
}


def _caps(summary: Summary) -> Table:
    table = _table(("cap", "window"), ("amount", "spent", "used"), "")
    for cap in summary.caps:
        if cap.amount_nusd is None:
            continue
        used = cap.spent_nusd / cap.amount_nusd if cap.amount_nusd else 1.0
        state = "exceeded" if cap.spent_nusd > cap.amount_nusd else "held"
        table.add_row(cap.cap, cap.window, _usd(cap.amount_nusd), _usd(cap.spent_nusd), f"{used:.0%}", state)
    return table


def _by_tenant(summary: Summary) -> Table:
    asked: defaultdict[str, int] = defaultdict(int)
    served: defaultdict[str, int] = defaultdict(int)
    for outcome in summary.outcomes:
        asked[outcome.planned.tenant] += 1
        served[outcome.planned.tenant] += outcome.judged.verdict is Verdict.SERVED
    table = _table(("account",), ("requests", "served", "cost", "share"), "")
    accounts = dict.fromkeys([*sorted(asked), *sorted(summary.sums.by_account)])
    for name in sorted(accounts, key=lambda name: name in MEANING):
        nusd = summary.sums.by_account.get(name, 0)
        share = nusd / summary.ledger_nusd if summary.ledger_nusd else 0.0
        counts = (f"{asked[name]:,}", f"{served[name]:,}") if name in asked else ("", "")
        table.add_row(name, *counts, _usd(nusd), f"{share:.1%}", MEANING.get(name, ""))
    table.add_section()
    table.add_row("total", f"{sum(asked.values()):,}", f"{sum(served.values()):,}", _usd(summary.ledger_nusd), "100.0%")
    return table


def _sides(policy: Policy, summary: Summary) -> Table:
    table = _table(("pool",), (*PHASES, "ledger", "billed", "gap"))
    for pool in policy.pools:
        phases = summary.sums.by_pool.get(pool, dict.fromkeys(PHASES, 0))
        ledger, billed = sum(phases.values()), summary.bill[pool].billed_nusd
        if not ledger and not billed:
            continue
        amounts = [_usd(phases[phase]) for phase in PHASES]
        table.add_row(pool, *amounts, _usd(ledger), _usd(billed), f"{gap(ledger, billed):+.2%}")
    table.add_section()
    totals = [_usd(summary.sums.phase_nusd(phase)) for phase in PHASES]
    table.add_row("total", *totals, _usd(summary.ledger_nusd), _usd(summary.billed_nusd), f"{summary.gap:+.2%}")
    return table


def _saving(policy: Policy, summary: Summary) -> str:
    if summary.saving is None:
        return "No request was answered, so that nothing can have been saved on the whole bill."
    parts = []
    for pool, nusd in summary.baseline.items():
        classes = " and ".join(one.name for one in policy.classes.values() if one.premium_pool == pool)
        parts.append(f"{classes} on {pool} {format_usd(nusd, 2)}")
    word = "Saved" if summary.saving >= 0 else "Lost"
    return (
        f"[bold]{word} {abs(summary.saving):.0%} of the whole bill[/]: {format_usd(summary.ledger_nusd, 2)} instead of "
        f"{format_usd(summary.baseline_nusd, 2)}, boots and idle time in both. The other bill is worked out\n"
        f"for the same requests with every class on its premium pool alone: {', '.join(parts)}.\n"
        f"[dim]A report of the same ledger states another saving, on busy time: boots and idle time in neither side.[/]"
    )


def _verdict(screen: Console, summary: Summary) -> None:
    problems = problems_of(summary)
    screen.print()
    if not problems:
        screen.print("[bold green]It adds up[/]: no request lost, no cap exceeded, ledger and bill within 1%.")
    for problem in problems:
        screen.print(f"[bold red]✗[/] {escape(problem)}", soft_wrap=True)


def _usd(nusd: int) -> str:
    return format_usd(nusd, USD_DIGITS)
