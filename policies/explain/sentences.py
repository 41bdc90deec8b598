"""A rejection in words: one sentence for each reason, with the numbers that its filter judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from policies.choose.decision import Reason, Rejection
from pricing.money import format_usd

Numbers = Mapping[str, Any]


def _usd(nusd: Any) -> str:
    return format_usd(int(nusd), 6)


def _in_flight(n: Numbers) -> str:
    foreign = n.get("foreign_in_flight", 0)
    return f"{n['in_flight']} requests in flight" + (f" and {foreign} that others sent" if foreign else "")


def _memory(n: Numbers) -> str:
    if "free_kv_tokens" in n:
        return (
            f"needs {n['needed_kv_tokens']:,} KV tokens beside {_in_flight(n)}; "
            f"{max(0, n['free_kv_tokens']):,} of {n['kv_tokens']:,} are free"
        )
    return f"needs {n['needed_kv_tokens']:,} KV tokens, a container holds {n['kv_tokens']:,}"


def _already_failed(n: Numbers) -> str:
    if "tries" in n:
        return f"ended in {n['failure']} for this request before ({n['tries']} tries)"
    after = f"after {n['failure']} on {n['failed_pool']}"
    if "max_model_len" in n:
        return f"{after}, its context of {n['max_model_len']:,} tokens is not longer than {n['failed_max_model_len']:,}"
    if "kv_tokens" in n:
        return f"{after}, its {n['kv_tokens']:,} KV tokens are not more than {n['failed_free_kv_tokens']:,}"
    if "pool_tier" in n:
        return f"{after}, its tier {n['pool_tier']} is not above {n['failed_tier']}"
    return f"{after}, no other pool is tried"


def _breaker(n: Numbers) -> str:
    if "misconfigured" in n:
        return f"is misconfigured: {n['cause']}; one request tries it again in {n['retry_s']:g} s"
    if "probed" in n:
        return f"breaker is half open ({n['cause']}), and a request tries it just now"
    return f"breaker is open ({n['cause']}), tried again in {n['retry_s']:g} s"


def _tokenizer(n: Numbers) -> str:
    if "needed_tokenizer" not in n:
        return "would answer the text of an answer that broke, not go on with it"
    return f"cannot go on with tokens of {n['needed_tokenizer']}; its own are {n['tokenizer']}"


def _saturated(n: Numbers) -> str:
    if "most_in_flight" in n:
        return f"{_in_flight(n)}; it refused more than {n['most_in_flight']} a moment ago"
    return f"{_in_flight(n)}; {n['containers']} × {n['max_concurrency']} are allowed"


_SENTENCES: Final[Mapping[Reason, Callable[[Numbers], str]]] = {
    Reason.CLASS: lambda n: f"is not on the ladder of class {n['class']}",
    Reason.TIER: lambda n: f"is listed under {n['pool_tier']}; {n['needed_tier']} is needed",
    Reason.NOT_PINNED: lambda n: f"the client named {n['pinned_pool']}",
    Reason.FEATURE: lambda n: f"lacks {n['missing']}",
    Reason.CONTEXT: lambda n: (
        f"needs {n['needed_tokens']:,} tokens of context; max_model_len is {n['max_model_len']:,}"
    ),
    Reason.MEMORY: _memory,
    Reason.TOO_LARGE: lambda n: f"needs {n['needed_gib']:.1f} GiB at this size; the GPU has {n['budget_gib']:.1f} GiB",
    Reason.OVERLOADED: lambda n: f"said that it has too much to do, is asked again in {n['retry_s']:g} s",
    Reason.BREAKER: _breaker,
    Reason.SHAPE: lambda n: (
        f"ran out of memory at up to {n['up_to_tokens']:,} tokens, cools down {n['retry_s']:g} s more"
    ),
    Reason.SATURATED: _saturated,
    Reason.QUEUED: lambda n: f"{n['waiting']} requests wait for room there and came first",
    Reason.DRAINED: lambda n: f"was taken out by operators; {n['in_flight']} requests still in flight",
    Reason.NOT_DEPLOYED: lambda n: (
        "has no container, and others start it; scale it up, or let the router (scale_to_zero)"
        if "containers" in n
        else "has no endpoint; add it under endpoints: or deploy it"
    ),
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
    Reason.TOKENIZER: _tokenizer,
}


def sentence(rejection: Rejection) -> str:
    """A rejection in words, for operators and for `detail` in JSON."""
    return _SENTENCES[rejection.reason](rejection.numbers)
