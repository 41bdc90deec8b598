"""The tables at the end of a run, as wide as the terminal. Nothing is decided here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Final

from rich.console import Console
from rich.markup import escape

from policies.policy import Policy
from pricing.ledger.rows import House
from pricing.money import format_usd
from pricing.reports.lines import saving_word
from pricing.reports.sections import NO_BREAK, Section
from pricing.reports.table import drawn, paragraph
from router.demo.books import PHASES, gap
from router.demo.load import Outcome
from router.demo.summary import Summary, problems_of
from router.demo.verdict import Verdict

USD_DIGITS: Final = 4
MEANING: Final[dict[str, str]] = {
    House.BOOT: "containers starting",
    House.IDLE: "containers without work",
    House.FAILED: "attempts that pools failed",
    House.OVERRUN: "work beyond a budget's end",
    House.ADJUSTMENT: "containers learnt of late",
}
"""What the house pays for, in words."""


def show(screen: Console, policy: Policy, summary: Summary) -> None:
    """Print the whole summary, and at its end whether everything holds."""
    screen.print(f"\n{_headline(summary)}")
    for section in (
        _by_pool(policy, summary),
        _trouble(summary),
        _caps(summary),
        _by_tenant(summary),
        _sides(policy, summary),
    ):
        screen.print()
        for part in drawn(section, screen.width):
            screen.print(part)
    screen.print()
    for sentence in saving_text(policy, summary):
        screen.print(paragraph(sentence, screen.width))
    _verdict(screen, summary)


def _headline(summary: Summary) -> str:
    counts = ", ".join(f"{summary.count(verdict):,} {verdict}" for verdict in Verdict)
    minutes, seconds = divmod(round(summary.simulated_s), 60)
    return (
        f"[bold]{len(summary.outcomes):,} requests: {counts}[/]\n"
        f"{minutes} min {seconds} s of pool time in {summary.real_s:.0f} s, "
        f"{summary.speedup:g} times life speed, seed {summary.seed}"
    )


def _by_pool(policy: Policy, summary: Summary) -> Section:
    """Every request once, under the pool that answered or was tried last; the median first token is of streams."""
    groups: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in summary.outcomes:
        groups[outcome.pool, outcome.planned.tier if not outcome.pool else outcome.tier].append(outcome)
    order = {pool: index for index, pool in enumerate(policy.pools)}
    rows = []
    for (pool, tier), found in sorted(groups.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0])):
        counts = [sum(one.judged.verdict is verdict for one in found) for verdict in Verdict]
        waits = [one.first_byte_s for one in found if one.planned.stream and one.first_byte_s is not None]
        rows.append(
            (
                pool or "no pool",
                policy.pools[pool].gpu.id if pool else "–",
                tier,
                f"{len(found):,}",
                *(f"{count:,}" if count else "·" for count in counts),
                f"{median(waits):.1f} s" if waits and pool else "–",
            )
        )
    columns = ("pool", "GPU", "tier", "requests", *Verdict, "first token")
    return Section("Requests by pool and tier", 3, columns, tuple(rows), spare=(("GPU",), ("lost",)))


def _trouble(summary: Summary) -> Section:
    """What was done to the pools, then what the router and the clients made of it."""
    return Section("What went wrong", 2, ("what", "where", "times"), tuple(_troubles(summary)))


def _troubles(summary: Summary) -> Iterator[tuple[str, str, str]]:
    for struck in summary.struck:
        yield f"ordered: {struck.mishap.name}, after {struck.at_s:.0f} s", struck.pool, "1"
    for cause, count in sorted(summary.sums.fallbacks.items()):
        yield f"another pool was tried after {cause}", "", str(count)
    for how, count in summary.sums.continued.items():
        if count:
            yield f"broken stream went on at another pool, {_WENT_ON[how]}", "", str(count)
    for verdict in (Verdict.BROKEN, Verdict.REFUSED, Verdict.LOST):
        for why, count in summary.reasons(verdict).most_common():
            yield f"{verdict}, {_AFTERMATH[verdict]}: {why}", "", str(count)


_WENT_ON: Final = {"tokens": "exactly", "text": "from its text"}
_AFTERMATH: Final = {
    Verdict.BROKEN: "ended with an error event",
    Verdict.REFUSED: "with an OpenAI error",
    Verdict.LOST: "nothing that could be read came",
}


def _caps(summary: Summary) -> Section:
    rows = []
    for cap in summary.caps:
        if cap.amount_nusd is None:
            continue
        used = cap.spent_nusd / cap.amount_nusd if cap.amount_nusd else 1.0
        state = "exceeded" if cap.spent_nusd > cap.amount_nusd else "held"
        rows.append((cap.cap, cap.window, _usd(cap.amount_nusd), _usd(cap.spent_nusd), f"{used:.0%}", state))
    return Section("Caps", 2, ("cap", "window", "amount", "spent", "used", "was"), tuple(rows))


def _by_tenant(summary: Summary) -> Section:
    asked: defaultdict[str, int] = defaultdict(int)
    served: defaultdict[str, int] = defaultdict(int)
    for outcome in summary.outcomes:
        asked[outcome.planned.tenant] += 1
        served[outcome.planned.tenant] += outcome.judged.verdict is Verdict.SERVED
    rows = []
    accounts = dict.fromkeys([*sorted(asked), *sorted(summary.sums.by_account)])
    for name in sorted(accounts, key=lambda name: name in MEANING):
        nusd = summary.sums.by_account.get(name, 0)
        share = nusd / summary.ledger_nusd if summary.ledger_nusd else 0.0
        counts = (f"{asked[name]:,}", f"{served[name]:,}") if name in asked else ("", "")
        rows.append((name, MEANING.get(name, ""), *counts, _usd(nusd), f"{share:.1%}"))
    sums = (f"{sum(asked.values()):,}", f"{sum(served.values()):,}", _usd(summary.ledger_nusd), "100.0%")
    columns = ("account", "", "requests", "served", "cost", "share")
    return Section("Cost by tenant", 2, columns, tuple(rows), ("total", "", *sums))


def _sides(policy: Policy, summary: Summary) -> Section:
    rows = []
    for pool in policy.pools:
        phases = summary.sums.by_pool.get(pool, dict.fromkeys(PHASES, 0))
        ledger, billed = sum(phases.values()), summary.bill[pool].billed_nusd
        if ledger or billed:
            amounts = [_usd(phases[phase]) for phase in PHASES]
            rows.append((pool, *amounts, _usd(ledger), _usd(billed), f"{gap(ledger, billed):+.1%}"))
    totals = [_usd(summary.sums.phase_nusd(phase)) for phase in PHASES]
    sums = ("total", *totals, _usd(summary.ledger_nusd), _usd(summary.billed_nusd), f"{summary.gap:+.1%}")
    columns = ("pool", *(_HEADINGS.get(phase, phase) for phase in PHASES), "ledger", "billed", "gap")
    return Section("The router's ledger beside the pools' own bill", 1, columns, tuple(rows), sums)


_HEADINGS: Final = {"adjustment": "adjustm."}


def saving_text(policy: Policy, summary: Summary) -> Iterator[str]:
    """What was saved of the whole bill, against what, and how a report's saving differs."""
    if summary.saving is None:
        yield "No request was answered, so that nothing can have been saved on the whole bill."
        return
    yield (
        f"{saving_word(summary.saving)} {abs(summary.saving):.0%} of the whole bill: "
        f"{format_usd(summary.ledger_nusd, 2)} instead of {format_usd(summary.baseline_nusd, 2)}, "
        "boots and idle time in both."
    )
    parts = []
    for pool, nusd in summary.baseline.items():
        classes = " and ".join(one.name for one in policy.classes.values() if one.premium_pool == pool)
        parts.append(f"{classes} on {pool}{NO_BREAK}{format_usd(nusd, 2)}")
    yield (
        "The other bill is worked out for the same requests with every class on its premium pool alone: "
        f"{', '.join(parts)}."
    )
    yield "A report of the same ledger states another saving, on busy time: boots and idle time in neither side."


def _verdict(screen: Console, summary: Summary) -> None:
    problems = problems_of(summary)
    screen.print()
    if not problems:
        agreed = f"ledger and bill {abs(summary.gap):.2%} apart"
        screen.print(f"[bold green]It adds up[/]: no request lost, no cap exceeded, {agreed}.")
    for problem in problems:
        screen.print(f"[bold red]✗[/] {escape(problem)}", soft_wrap=True)


def _usd(nusd: int) -> str:
    return format_usd(nusd, USD_DIGITS)
