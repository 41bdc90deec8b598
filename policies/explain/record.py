"""A decision as JSON, with a sentence for each refusal. Every number in it was put into the decision by `decide`.

`policies/explain/table.py` draws the same JSON, be it of a decision just made, of a running endpoint or of the ledger.
"""

from __future__ import annotations

from typing import Any

import msgspec

from policies.choose.decision import Candidate, Decision, Reason, Rejection
from policies.explain.sentences import sentence
from pricing.money import usd_number


def as_json(decision: Decision) -> dict[str, Any]:
    """A decision as plain JSON values. Dollars are numbers for reading, not for sums."""
    needs, candidates = decision.requirements, [_candidate(candidate) for candidate in decision.candidates]
    first = candidates[0] if candidates else None
    return {
        "class": needs.request_class,
        "tier": decision.tier.value,
        "tier_asked": needs.tier.value,
        "tier_lowered_by": decision.lowered_by,
        "prompt_tokens": needs.prompt_tokens,
        "output_bound": needs.output_bound,
        **({} if needs.media is None else {"media": msgspec.to_builtins(needs.media)}),
        "objective": decision.objective.value,
        "chosen": first if decision.line is None else _candidate(decision.line),
        "waits_for": _waits_for(decision),
        "in_line": dict(decision.lines),
        "candidates": candidates,
        "rejected": [_rejection(rejection) for rejection in decision.rejected],
        "warm": {"pool": decision.warm, "ready_in_s": round(decision.warm_s, 3)} if decision.warm else None,
        "policy_version": decision.policy_version,
        "price_books": list(decision.price_books),
        "decided_us": decision.decided_us,
    }


def as_record(decision: Decision) -> dict[str, Any]:
    """The same for the ledger: pools that are on no ladder of the class are counted, not listed.

    They are most of a large catalogue, and the same for every request of a class.
    """
    listed = tuple([one for one in decision.rejected if one.reason is not Reason.CLASS])
    off_ladder = len(decision.rejected) - len(listed)
    record = as_json(msgspec.structs.replace(decision, rejected=listed) if off_ladder else decision)
    record["off_ladder"] = off_ladder
    return record


def _waits_for(decision: Decision) -> str | None:
    """What a request waits for before it is sent to the pool that is chosen: room there, or its boot."""
    if decision.line is not None:
        return "room"
    return "boot" if decision.chosen is not None and decision.chosen.wait_s > 0 else None


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "pool": one.pool.name,
        "model": one.pool.model.id,
        "quantization": one.pool.quantization,
        "gpu": one.pool.gpu.id,
        "gpu_count": one.pool.gpu_count,
        "billed_by": "seconds" if one.pool.terms is None else "tokens",
        "tier": one.tier.value,
        "expected_bill_usd": usd_number(one.expected_bill_nusd),
        "expected_charge_usd": usd_number(one.expected_charge_nusd),
        "expected_boot_usd": usd_number(one.boot_nusd),
        "expected_seconds": round(one.wait_s + one.expected_s, 3),
        "wait_s": round(one.wait_s, 3),
        "ttft_s": round(one.ttft_s, 3),
        "cold": one.cold,
        "cache_saves_s": round(one.cache_saves_s, 3),
        "cache_saves_usd": usd_number(one.cache_saves_nusd),
    }


def _rejection(one: Rejection) -> dict[str, Any]:
    return {"pool": one.pool, "reason": one.reason.value, "detail": sentence(one), **one.numbers}
