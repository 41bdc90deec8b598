"""A past request as JSON: its summary, the decision before each attempt, and what each attempt cost whom.

`GET /v1/decisions/{id}` answers with it, and `sluice explain ID` draws it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pricing.clock import US_PER_S
from pricing.ledger.read import StoredRequest
from pricing.ledger.rows import LedgerRow
from pricing.money import usd_number


def past_json(stored: StoredRequest) -> dict[str, Any]:
    """Dollars are numbers for reading, times seconds. `cost_usd` is what the tenant paid, the house's part left out."""
    summary = stored.summary
    paid_nusd = sum(row.amount_nusd for row in stored.rows if row.account == summary.tenant)
    return {
        "request_id": summary.request_id,
        "at": datetime.fromtimestamp(summary.at_us / US_PER_S, UTC).isoformat(timespec="milliseconds"),
        "tenant": summary.tenant,
        "key_id": summary.key_id,
        "endpoint": summary.endpoint,
        "model": summary.model_asked,
        "class": summary.request_class,
        "tier_asked": summary.tier_asked,
        "tier_served": summary.tier_served,
        "pool": summary.pool,
        "outcome": summary.outcome,
        "status": summary.status,
        "error_code": summary.error_code,
        "stream": summary.stream,
        "schema_asked": summary.schema_asked,
        "max_tokens": summary.max_tokens,
        "sequences": summary.sequences,
        "features": list(summary.features),
        "continued": summary.continued,
        "continued_by_text": summary.continued_by_text,
        "duration_s": summary.duration_us / US_PER_S,
        "prompt_tokens": summary.prompt_tokens,
        "cached_prompt_tokens": summary.cached_prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "cost_usd": usd_number(paid_nusd),
        "policy_version": summary.policy_version,
        "attempts": [_attempt(row) for row in stored.rows],
        "decisions": list(stored.decisions),
    }


def _attempt(row: LedgerRow) -> dict[str, Any]:
    return {
        "attempt": row.attempt,
        "kind": row.kind.value,
        "pool": row.pool,
        "gpu": row.gpu,
        "outcome": row.outcome,
        "schema": row.schema_result,
        "paid_by": row.account,
        "amount_usd": usd_number(row.amount_nusd),
        "metered_usd": usd_number(row.metered_nusd),
        "duration_s": row.duration_us / US_PER_S,
        "ttft_s": None if row.ttft_us is None else row.ttft_us / US_PER_S,
        "estimated": row.estimated,
    }
