"""A request that is over, as the ledger keeps it and as those who listen hear of it."""

from __future__ import annotations

import msgspec

from policies.explain.record import as_record
from pricing.ledger.rows import RequestRow
from router.inbound.tracing import trace_id
from router.serving.baseline import baseline_nusd
from router.serving.chain import Chain
from router.serving.media import made
from router.telemetry.events import RequestEnded


def request_row(chain: Chain, outcome: str, status: int, error_code: str | None, duration_us: int) -> RequestRow:
    """The summary for the ledger, with the decision before each attempt."""
    spec = None if chain.pool is None else chain.policy.pools[chain.pool]
    return RequestRow(
        request_id=chain.request_id,
        at_us=chain.wall_us,
        tenant=chain.caller.tenant,
        key_id=chain.caller.key_id,
        endpoint=chain.endpoint,
        model_asked=chain.parsed.model,
        request_class=chain.request_class.name,
        tier_asked=chain.requirements.tier,
        tier_served=chain.tier_served,
        pool=chain.pool,
        outcome=outcome,
        status=status,
        error_code=error_code,
        attempts=chain.attempts,
        stream=chain.parsed.stream,
        duration_us=duration_us,
        prompt_tokens=chain.prompt_tokens,
        completion_tokens=chain.completion_tokens,
        cached_prompt_tokens=chain.cached_tokens,
        baseline_nusd=baseline_nusd(chain),
        policy_version=chain.policy.version,
        decisions_json=msgspec.json.encode([as_record(decision) for decision in chain.decisions]),
        tags=chain.caller.tags,
        schema_asked=chain.parsed.json_schema is not None,
        continued=0 if chain.broken is None else chain.broken.times,
        continued_by_text=0 if chain.broken is None else chain.broken.by_text,
        max_tokens=chain.parsed.max_tokens,
        sequences=chain.requirements.sequences,
        features=tuple(sorted(chain.parsed.features)) if chain.parsed.features else (),
        model="" if spec is None else spec.model.id,
        gpu="" if spec is None else spec.gpu.id,
        **({} if chain.made is None else made(chain.requirements.media_items, chain.made)),
    )


def request_ended(chain: Chain, row: RequestRow) -> RequestEnded:
    """The event, with what the request cost."""
    outlook = chain.outlook
    written_at_once = chain.broken is None and row.sequences == 1
    spec = None if chain.pool is None else chain.policy.pools[chain.pool]
    return RequestEnded(
        request_id=row.request_id,
        tenant=row.tenant,
        key_id=row.key_id,
        endpoint=row.endpoint,
        request_class=row.request_class,
        tier=row.tier_served or row.tier_asked,
        pool=row.pool,
        outcome=row.outcome,
        status=row.status,
        error_code=row.error_code,
        attempts=row.attempts,
        stream=row.stream,
        duration_us=row.duration_us,
        ttft_us=chain.ttft_us,
        charge_nusd=chain.charged_nusd,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        expected_tokens=None if outlook is None else outlook.expected.median * row.sequences,
        p90_tokens=None if outlook is None else outlook.expected.p90 * row.sequences,
        expected_from=None if outlook is None else outlook.expected.ground,
        lowered_by=chain.decisions[-1].lowered_by if chain.decisions else None,
        at_us=row.at_us,
        model=row.model,
        engine="" if spec is None else spec.engine,
        writing_us=chain.writing_us if written_at_once else None,
        trace_id=trace_id(chain.trace_parent),
        baseline_nusd=row.baseline_nusd,
    )
