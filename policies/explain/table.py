"""A decision as text of at most 100 columns: what was asked, the candidates in order, why each other pool is none.

It draws what `policies.explain.record.as_json` wrote and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policies.choose.decision import Decision, Reason
from policies.explain.record import as_json

Json = Mapping[str, Any]


def render(decision: Decision) -> RenderableType:
    """A decision as a rich renderable; plain text where there is no terminal."""
    return render_json(as_json(decision))


def render_json(decision: Json) -> RenderableType:
    """The same for a decision that was read from an endpoint or the ledger."""
    tier = decision["tier"]
    by = decision.get("tier_lowered_by")  # decisions of earlier releases do not say
    because = f" by budget {by}" if by else ""
    lowered = f" (lowered from {decision['tier_asked']}{because})" if decision["tier_asked"] != tier else ""
    asked = f"class {decision['class']} · tier {tier}{lowered}{_size(decision)} · objective {decision['objective']}"
    parts: list[RenderableType] = [Text(asked), _outcome(decision), Text()]
    if decision["candidates"]:
        parts += [*_cached(decision["candidates"]), _candidates_table(decision["candidates"]), Text()]
    off_ladder = decision.get("off_ladder", 0)
    if decision["rejected"] or off_ladder:
        parts += [_rejected_table(decision["rejected"], off_ladder), Text()]
    footer = f"policy {decision['policy_version']} · prices {', '.join(decision['price_books'])}"
    return Group(*parts, Text(footer, style="dim"))


def _size(decision: Json) -> str:
    prompt, output = decision["prompt_tokens"], decision["output_bound"]
    return f" · {prompt:,} prompt + {output:,} output tokens" if prompt or output else ""


def _outcome(decision: Json) -> Text:
    chosen, warm = decision["chosen"], decision["warm"]
    if chosen:
        if chosen.get("billed_by") == "tokens":  # decisions of earlier releases do not say
            return Text(f"→ {chosen['pool']} (billed by the token)", style="bold green")
        return Text(f"→ {chosen['pool']} on {_gpu(chosen)} ({_state(decision)})", style="bold green")
    if warm:
        text = f"→ none in time; {warm['pool']} is the one to wake, ready in {warm['ready_in_s']:.0f} s"
        return Text(text, style="bold yellow")
    return Text("→ no pool can serve this request", style="bold red")


def _state(decision: Json) -> str:
    chosen, lines = decision["chosen"], decision.get("in_line", {})  # decisions of earlier releases do not say
    if decision.get("waits_for") == "room":
        before = lines[chosen["pool"]]
        others = f", {before} before it" if before else ""
        return f"full; it waits in line{others}, for about {chosen['wait_s']:.0f} s"
    if not chosen["cold"]:
        return "warm"
    meanwhile = f"; meanwhile in line for {', '.join(lines)}" if lines else ""
    return f"cold, ready in {chosen['wait_s']:.0f} s{meanwhile}"


def _cached(candidates: Sequence[Json]) -> list[Text]:
    """One line where a pool has the conversation cached; its candidate's own numbers are those without that."""
    return [
        Text(f"  {one['pool']}: its cache saves {one['cache_saves_s']:.2f} s, ${one['cache_saves_usd']:.6f}")
        for one in candidates
        if one.get("cache_saves_s")
    ]


def _gpu(candidate: Json) -> str:
    count = candidate["gpu_count"]
    return str(candidate["gpu"]) if count == 1 else f"{count}×{candidate['gpu']}"


def _candidates_table(candidates: Sequence[Json]) -> Table:
    table = _table()
    table.add_column("", no_wrap=True)
    table.add_column("candidate", overflow="fold")  # gives way on a narrow terminal, so that no number is cut
    for heading in ("GPU", "tier"):
        table.add_column(heading, no_wrap=True)
    for heading in ("bill $", "charge $", "boot s", "total s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, one in enumerate(candidates, start=1):
        money = (f"{one['expected_bill_usd']:.6f}", f"{one['expected_charge_usd']:.6f}")
        times = (f"{one['wait_s']:.1f}", f"{one['expected_seconds']:.1f}")
        table.add_row(str(place), one["pool"], _gpu(one), one["tier"], *money, *times)
    return table


def _rejected_table(rejected: Sequence[Json], off_ladder: int) -> Table:
    table = _table()
    table.add_column("rejected", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("because it", overflow="fold")
    elsewhere = off_ladder + sum(one["reason"] == Reason.CLASS for one in rejected)
    for one in rejected:
        if one["reason"] != Reason.CLASS:
            table.add_row(one["pool"], one["reason"], one["detail"])
    if elsewhere:
        table.add_row(f"{elsewhere} more", Reason.CLASS.value, "is on the ladder of other classes")
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
