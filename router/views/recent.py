"""A request as the list and the feed of decisions show it: one line of JSON, whichever of the two it comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pricing.clock import US_PER_S
from pricing.ledger.recent import Recent
from pricing.money import usd_number


def recent_json(one: Recent) -> dict[str, Any]:
    """Dollars are numbers for reading, times seconds. `cost_usd` is what the tenant paid."""
    return {
        "object": "decision",
        "request_id": one.request_id,
        "at": datetime.fromtimestamp(one.at_us / US_PER_S, UTC).isoformat(timespec="milliseconds"),
        "tenant": one.tenant,
        "key_id": one.key_id,
        "endpoint": one.endpoint,
        "class": one.request_class,
        "tier": one.tier,
        "pool": one.pool,
        "outcome": one.outcome,
        "status": one.status,
        "error_code": one.error_code,
        "stream": one.stream,
        "attempts": [{"attempt": each.number, "pool": each.pool, "outcome": each.outcome} for each in one.attempts],
        "duration_s": one.duration_us / US_PER_S,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.completion_tokens,
        "cost_usd": usd_number(one.charged_nusd),
    }
