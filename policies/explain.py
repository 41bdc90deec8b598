"""A decision as JSON and as a table. Nothing is decided here: every number was put into the decision by `decide`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policies.decision import Candidate, Decision, Reason, Rejection
from pools.spec import PoolSpec
from pricing.money import format_usd, usd_number

Numbers = Mapping[str, Any]


def _usd(nusd: Any) -> str:
    return format_usd(int(nusd), 6)


def _memory(n: Numbers) -> str:
    if "free_kv_tokens" in n:
        return (
            f"needs {n['needed_kv_tokens']:,} KV tokens beside {n['in_flight']} requests in flight; "
            f"{max(0, n['free_kv_tokens']):,} of {n['kv_tokens']:,} are free"
        )
    return f"needs {n['needed_kv_tokens']:,} KV tokens, a container holds {n['kv_tokens']:,}"


def _already_failed(n: Numbers) -> str:
    if "tries" in n:
        return f"ended in {n['failure']} for this request before ({n['tries']} tries)"
    after = f"after {n['failure']} on {n['failed_pool']}"
    if "max_model_len" in n:
        return f"{after}, its context of {n['max_model_len']:,} tokens is not longer than {n['failed_max_model_len']:,}"
    if "free_kv_tokens" in n:
        free, failed = max(0, n["free_kv_tokens"]), n["failed_free_kv_tokens"]
        return f"{after}, its {free:,} free KV tokens are not more than {failed:,}"
    if "pool_tier" in n:
        return f"{after}, its tier {n['pool_tier']} is not above {n['failed_tier']}"
    return f"{after}, no other pool is tried"


_SENTENCES: Final[Mapping[Reason, Callable[[Numbers], str]]] = {
    Reason.CLASS: lambda n: f"is not on the ladder of class {n['class']}",
    Reason.TIER: lambda n: f"is listed under {n['pool_tier']}; {n['needed_tier']} is needed",
    Reason.NOT_PINNED: lambda n: f"the client named {n['pinned_pool']}",
    Reason.FEATURE: lambda n: f"lacks {n['missing']}",
    Reason.CONTEXT: lambda n: (
        f"needs {n['needed_tokens']:,} tokens of context; max_model_len is {n['max_model_len']:,}"
    ),
    Reason.MEMORY: _memory,
    Reason.BREAKER: lambda n: f"breaker is open ({n['cause']}), tried again in {n['retry_s']:g} s",
    Reason.SHAPE: lambda n: (
        f"ran out of memory at up to {n['up_to_tokens']:,} tokens, cools down {n['retry_s']:g} s more"
    ),
    Reason.SATURATED: lambda n: (
        f"{n['in_flight']} requests in flight; {n['containers']} × {n['max_concurrency']} are allowed"
    ),
    Reason.DRAINED: lambda n: f"was taken out by operators; {n['in_flight']} requests still in flight",
    Reason.NOT_DEPLOYED: lambda n: "has no endpoint; add it under endpoints: or deploy it",
    Reason.DEADLINE: lambda n: (
        f"first token after {n['wait_s'] + n['ttft_s']:.1f} s ({n['wait_s']:.1f} s of boot); "
        f"the deadline is {n['deadline_s']:.1f} s"
    ),
    Reason.BUDGET: lambda n: f"needs {_usd(n['needed_nusd'])}, {_usd(n['left_nusd'])} left in budget {n['cap']}",
    Reason.CHAIN_COST: lambda n: (
        f"needs {_usd(n['needed_nusd'])} ({_usd(n['boot_nusd'])} of it a boot), "
        f"{_usd(n['left_nusd'])} left of the request's limit"
    ),
    Reason.ALREADY_FAILED: _already_failed,
}


def sentence(rejection: Rejection) -> str:
    """A rejection in words, for operators and for `detail` in JSON."""
    return _SENTENCES[rejection.reason](rejection.numbers)


def gpu_label(pool: PoolSpec) -> str:
    """`L4`, or `4×H200`."""
    return pool.gpu.id if pool.gpu_count == 1 else f"{pool.gpu_count}×{pool.gpu.id}"


def as_json(decision: Decision) -> dict[str, Any]:
    """A decision as plain JSON values. Dollars are numbers for reading, not for sums."""
    chosen = decision.chosen
    return {
        "class": decision.requirements.request_class,
        "tier": decision.tier.value,
        "tier_asked": decision.requirements.tier.value,
        "objective": decision.objective.value,
        "chosen": _candidate(chosen) if chosen else None,
        "candidates": [_candidate(candidate) for candidate in decision.candidates],
        "rejected": [_rejection(rejection) for rejection in decision.rejected],
        "warm": {"pool": decision.warm, "ready_in_s": round(decision.warm_s, 3)} if decision.warm else None,
        "policy_version": decision.policy_version,
        "price_books": list(decision.price_books),
        "decided_us": decision.decided_us,
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "pool": one.pool.name,
        "model": one.pool.model.id,
        "quantization": one.pool.quantization,
        "gpu": one.pool.gpu.id,
        "gpu_count": one.pool.gpu_count,
        "tier": one.tier.value,
        "expected_bill_usd": usd_number(one.expected_bill_nusd),
        "expected_charge_usd": usd_number(one.expected_charge_nusd),
        "expected_boot_usd": usd_number(one.boot_nusd),
        "expected_seconds": round(one.wait_s + one.expected_s, 3),
        "wait_s": round(one.wait_s, 3),
        "ttft_s": round(one.ttft_s, 3),
        "cold": one.cold,
    }


def _rejection(one: Rejection) -> dict[str, Any]:
    return {"pool": one.pool, "reason": one.reason.value, "detail": sentence(one), **one.numbers}


def render(decision: Decision) -> RenderableType:
    """The decision as text: what was asked, the candidates in order, and why each other pool is none."""
    needs = decision.requirements
    asked = (
        f"class {needs.request_class} · tier {decision.tier.value} · {_size(decision)} · objective {decision.objective}"
    )
    footer = f"policy {decision.policy_version} · prices {', '.join(decision.price_books)}"
    parts: list[RenderableType] = [Text(asked), _outcome(decision)]
    if decision.candidates:
        parts.append(_candidates_table(decision.candidates))
    if decision.rejected:
        parts.append(_rejected_table(decision.rejected))
    return Group(*parts, Text(footer, style="dim"))


def _size(decision: Decision) -> str:
    needs = decision.requirements
    if not needs.total_tokens:
        return f"{needs.media_items} item{'s' if needs.media_items != 1 else ''}"
    return f"{needs.prompt_tokens:,} prompt + {needs.output_bound:,} output tokens"


def _outcome(decision: Decision) -> Text:
    chosen = decision.chosen
    if chosen:
        state = f"cold, ready in {chosen.wait_s:.0f} s" if chosen.cold else "warm"
        return Text(f"→ {chosen.pool.name} on {gpu_label(chosen.pool)} ({state})", style="bold green")
    if decision.warm:
        return Text(f"→ none in time; waking {decision.warm}, ready in {decision.warm_s:.0f} s", style="bold yellow")
    return Text("→ no pool can serve this request", style="bold red")


def _candidates_table(candidates: tuple[Candidate, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "candidate", "GPU", "tier"):
        table.add_column(heading, no_wrap=True)
    for heading in ("bill", "charge", "wait s", "total s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, one in enumerate(candidates, start=1):
        money = (_usd(one.expected_bill_nusd), _usd(one.expected_charge_nusd))
        times = (f"{one.wait_s:.1f}", f"{one.wait_s + one.expected_s:.1f}")
        table.add_row(str(place), one.pool.name, gpu_label(one.pool), one.tier.value, *money, *times)
    return table


def _rejected_table(rejected: tuple[Rejection, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rejected", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("because it", overflow="fold")
    elsewhere = [one.pool for one in rejected if one.reason is Reason.CLASS]
    for one in rejected:
        if one.reason is not Reason.CLASS:
            table.add_row(one.pool, one.reason.value, sentence(one))
    if elsewhere:
        table.add_row(f"{len(elsewhere)} others", Reason.CLASS.value, "serve other classes")
    return table
