"""From a decision without candidates, or a chain without an answer, to the error a client gets and can act on."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from policies.choose.decide import decide
from policies.choose.decision import FOR_ROOM, Decision, Reason, Rejection
from policies.choose.facts import Facts
from policies.explain.sentences import sentence
from policies.policy import Rung
from policies.requirements import Tier
from pools.failures.classes import AttemptFailed, FailureClass
from pricing.budgets.caps import Dimension
from pricing.clock import US_PER_S
from pricing.errors import BudgetExceeded, RateLimited
from router.errors import SDK_WAITS_S, ApiError, PassedOn
from router.interrupts import Cause
from router.serving.chain import Chain

NAMED_AT_MOST: Final = 4  # pools in a sentence; the answer's metadata has all of them
RETRY_SOON_S: Final = 2.0  # when nothing better is known of when a pool has room again
_STATIC: Final = frozenset({Reason.CLASS, Reason.TIER, Reason.NOT_PINNED})


def refusal_of(chain: Chain, decision: Decision) -> ApiError:
    """Why no pool can be tried, most telling reason first."""
    if chain.reports and chain.attempts == 0:
        return _still_warming(chain)
    if chain.reports:
        pauses_s = [float(one.numbers["retry_s"]) for one in decision.rejected if "retry_s" in one.numbers]
        return chain_failed(chain, "no other pool can serve this request", not_before_s=min(pauses_s, default=0))
    never = _never_fits(chain, decision)
    if never is not None:
        return never
    reasons = [one for one in decision.rejected if one.reason not in _STATIC]
    if decision.warm is not None:
        text = f"'{decision.warm}' is starting for this request class; it is ready in {decision.warm_s:.0f} s"
        # Who comes back in the midst of a boot costs nothing, and may find that what is left of it can be waited for.
        soon_s = min(decision.warm_s, SDK_WAITS_S)
        metadata = {"pool": decision.warm, "ready_in_s": round(decision.warm_s, 1)}
        return ApiError("model_warming", text, retry_after_s=soon_s, metadata=metadata)
    passes_s = [seconds for one in reasons if (seconds := _passes_in_s(one)) is not None]
    return ApiError(
        "no_capable_pool",
        _nothing_deployed(chain, reasons)
        or f"no pool can serve this request {_when(chain, decision)}: {_summary(reasons)}",
        retry_after_s=min(passes_s, default=None),
        passes=bool(passes_s),
        metadata={"rejected": [_reason_json(one) for one in reasons]},
    )


def _when(chain: Chain, decision: Decision) -> str:
    """Somebody who waited as long as there was time is told so."""
    waited_s = (decision.decided_us - chain.wall_us) / US_PER_S
    return "now" if chain.ticket is None else f"within the {waited_s:.0f} s that it waited"


def _still_warming(chain: Chain) -> ApiError:
    """The deadline came before the boot that the request waited for: nothing ran, and the boot goes on."""
    text = "; ".join(f"'{report.pool}' is still starting, {report.detail}" for report in chain.reports)
    metadata = {"attempts": [report.as_json() for report in chain.reports]}
    return ApiError("model_warming", text, retry_after_s=RETRY_SOON_S, metadata=metadata)


def _never_fits(chain: Chain, decision: Decision) -> ApiError | None:
    """400 where no pool could serve the request even if all were up and empty."""
    needs = chain.requirements
    rungs = [rung for rung in chain.request_class.ladder if _listed(chain, rung)]
    able = [rung for rung in rungs if needs.features <= rung.pool.features]
    if rungs and not able:
        missing = sorted(needs.features - frozenset().union(*(rung.pool.features for rung in rungs)))
        lacks = ", ".join(missing) or "this combination of features"
        if needs.pinned_pool is not None:
            return ApiError("feature_not_supported", f"pool '{needs.pinned_pool}' does not support {lacks}")
        return ApiError("feature_not_supported", f"no pool of '{chain.request_class.name}' supports {lacks}")
    if (too_large := _too_large(decision, able)) is not None:
        return too_large
    largest = _largest_context(able)
    if able and needs.context_tokens > largest:
        who = needs.pinned_pool or chain.request_class.name
        about = "" if needs.prompt_exact else "about "
        bound = needs.output_bound // needs.sequences
        return ApiError(
            "context_length_exceeded",
            f"the largest context of '{who}' is {largest} tokens; this request needs "
            f"{about}{needs.context_tokens - bound} for the prompt and {bound} for the answer: "
            "shorten the prompt or lower max_tokens",
            param="messages",
            metadata={"largest_context": largest},
        )
    return None


def _too_large(decision: Decision, rungs: list[Rung]) -> ApiError | None:
    """400 where no pool has the memory for a picture or clip of that size."""
    names = {rung.pool.name for rung in rungs}
    large = [one for one in decision.rejected if one.reason is Reason.TOO_LARGE and one.pool in names]
    if not large or len(large) < len(names):
        return None
    text = "; ".join(f"'{one.pool}' {sentence(one)}" for one in large)
    return ApiError("invalid_value", f"no pool can make that much at once: {text}; ask for less", param="size")


def _largest_context(rungs: list[Rung]) -> int:
    return max((rung.pool.max_model_len for rung in rungs), default=0)


def _listed(chain: Chain, rung: Rung) -> bool:
    needs = chain.requirements
    if needs.pinned_pool is not None:
        return rung.pool.name == needs.pinned_pool
    return rung.tier.rank >= needs.tier.rank


def budget_refusal(refused: BudgetExceeded, now_us: int, cheaper: Tier | None) -> ApiError:
    """429 with when enough leaves the window; never to be retried by an SDK on its own. `cheaper`: a tier that fits."""
    shortfall = refused.shortfall
    frees_us = shortfall.frees_at_us
    return ApiError(
        "budget_exceeded",
        str(refused) if cheaper is None else f"{refused} or route to `{cheaper}`",
        retry_after_s=None if frees_us is None else max(1.0, (frees_us - now_us) / US_PER_S),
        metadata={"cap": shortfall.cap, "window": shortfall.window},
    )


def tier_that_fits(facts: Facts, left_nusd: int) -> Tier | None:
    """The highest tier below the one asked for that has a pool of its own with a charge of at most `left_nusd`."""
    needs = facts.requirements
    if needs.pinned_pool is not None:
        return None
    tier = needs.tier.below
    while tier is not None:
        lower = decide(replace(facts, requirements=replace(needs, tier=tier)))
        for one in lower.candidates:
            if one.tier.rank < needs.tier.rank and one.expected_charge_nusd <= left_nusd:
                return tier
        tier = tier.below
    return None


def rate_refusal(limited: RateLimited) -> ApiError:
    """429 with when it fits again: an SDK comes back then, unless the request alone is larger than its limit.

    Whoever comes back earlier than told, because clients do not wait for longer, is told the rest.
    """
    wait_s = limited.retry_after_s
    at_once = limited.dimension == Dimension.IN_FLIGHT
    return ApiError(
        "rate_limit_exceeded",
        str(limited),
        retry_after_s=None if wait_s is None else min(wait_s, SDK_WAITS_S),
        passes=limited.limit > 0 and (at_once or wait_s is not None),
        error_type="tokens" if limited.dimension == Dimension.TOKENS else "requests",
        exact_wait=True,
        metadata={"scope": limited.scope, "dimension": limited.dimension, "limit": limited.limit},
    )


def chain_failed(chain: Chain, why: str, passed_on: AttemptFailed | None = None, not_before_s: float = 0) -> ApiError:
    """Every try failed, or no further one may be made. `not_before_s`: until a pool that has no room is asked again."""
    if passed_on is not None and passed_on.status is not None:
        return PassedOn(passed_on.status, passed_on.body)
    failures = [report.failure for report in chain.reports]
    metadata: dict[str, Any] = {"attempts": [report.as_json() for report in chain.reports]}
    tried = ", ".join(f"{report.pool} ({report.failure})" for report in chain.reports)
    text = f"{why}; tried {tried}" if tried else why
    last = failures[-1] if failures else ""
    if last == FailureClass.CONTEXT_OVERFLOW:
        largest = _largest_context([rung for rung in chain.request_class.ladder if _listed(chain, rung)])
        metadata["largest_context"] = largest
        return ApiError(
            "context_length_exceeded", f"{text}; the largest context is {largest} tokens", metadata=metadata
        )
    if last == FailureClass.BAD_OUTPUT and chain.parsed.json_schema is not None:
        return ApiError("schema_violation", f"{text}; simplify the schema or raise max_tokens", metadata=metadata)
    if failures and set(failures) == {FailureClass.OVERLOADED}:
        return ApiError("no_capable_pool", text, retry_after_s=max(not_before_s, RETRY_SOON_S), metadata=metadata)
    code = "chain_timeout" if last in (FailureClass.TIMEOUT, FailureClass.COLD) else "chain_failed"
    return ApiError(code, text, metadata=metadata)


def _summary(reasons: list[Rejection]) -> str:
    if not reasons:
        return "none is listed for this class and tier"
    pools: dict[str, list[str]] = {}
    for one in reasons:
        pools.setdefault(sentence(one), []).append(one.pool)
    return "; ".join(f"{_names(named)}: {text}" for text, named in pools.items())


def _nothing_deployed(chain: Chain, reasons: list[Rejection]) -> str | None:
    """What an operator is to write where no pool that could serve has an address; None where one has."""
    if not reasons or any(one.reason is not Reason.NOT_DEPLOYED or "endpoints" not in one.numbers for one in reasons):
        return None
    pools = [one.pool for one in reasons]
    return (
        f"no pool that could serve '{chain.request_class.name}' has an endpoint: {_names(pools)}; add one to the "
        f'policy, as in endpoints: {{{pools[0]}: {{url: "https://..."}}}}'
    )


def _names(pools: list[str]) -> str:
    more = len(pools) - NAMED_AT_MOST
    return ", ".join(pools[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _reason_json(one: Rejection) -> dict[str, Any]:
    return {"pool": one.pool, "reason": str(one.reason), "detail": sentence(one)}


def _passes_in_s(one: Rejection) -> float | None:
    """When a reason may have passed by itself; None where it stays until somebody changes something."""
    retry_s = one.numbers.get("retry_s")
    if retry_s is not None:
        return None if "misconfigured" in one.numbers else float(retry_s)  # a probe is not likely to mend that
    if one.reason is Reason.MEMORY and "in_flight" not in one.numbers:  # it does not fit alone
        return None
    return RETRY_SOON_S if one.reason in FOR_ROOM or one.reason in (Reason.DEADLINE, Reason.BUDGET) else None


def stop_error(cause: Cause) -> ApiError:
    """What a client reads when its request was ended from outside."""
    if cause is Cause.SHUTDOWN:
        return ApiError(
            "shutting_down", "this endpoint is stopping; send the request again", retry_after_s=RETRY_SOON_S
        )
    if cause is Cause.CUT:
        return ApiError(
            "budget_exceeded", "the budget ran out while the answer was being made; what came so far is paid"
        )
    if cause is Cause.STORE_DOWN:
        return ApiError(
            "store_unavailable", "the budget store cannot be reached; try again soon", retry_after_s=RETRY_SOON_S
        )
    return ApiError("client_closed_request", "the client closed the connection")
