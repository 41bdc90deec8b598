"""The request as it goes up: which bytes change, and how long the pool may take."""

from __future__ import annotations

from typing import Final

import msgspec

from policies.choose.decision import Candidate
from policies.requirements import TAKES_TOKEN_IDS
from pools.wire.backend import UpstreamRequest
from pools.wire.splice import replace_fields, without_fields
from pricing.clock import US_PER_S, Clock
from router.inbound import tracing
from router.inbound.sessions import SESSION_HEADER
from router.output.streaming import API_STREAM_OPTIONS, STREAM_OPTIONS
from router.serving.chain import Chain
from router.serving.media import media_body

P95_TIMES: Final = 5  # first token: five times the predicted 95th percentile ...
FIRST_TOKEN_AT_LEAST_S: Final = 10.0  # ... and never below ten seconds
WHOLE_ANSWER_TIMES: Final = 2  # an answer that is not streamed may take twice its expected time ...
# ... at the client's own bound, or without one at four times the expected tokens (p99 / median is 4.7 in the Azure 2023
# conversation trace). Longer patience would leave a hang no time for another pool within `first_byte_deadline_s`.
UNBOUNDED_TIMES: Final = 4
# A picture or clip takes a known number of steps. Three times its estimate is beyond the error of the catalogue's
# figures (30% either way where they are estimates) and of another request of double size that came first.
MEDIA_TIMES: Final = 3


def upstream_request(chain: Chain, candidate: Candidate, clock: Clock) -> UpstreamRequest:
    """Put the attempt's request together. Every wait in it ends by the chain's own deadlines at the latest."""
    now_us = clock.mono_us()
    limits = chain.limits
    total_s = chain.total_left_s(now_us)
    patience_s = _patience_s(chain, candidate)
    first_s = min(patience_s, chain.first_byte_left_s(now_us) if chain.streams_up else total_s)
    first_by_client = total_by_client = False
    if chain.client_deadline_us is not None:
        client_s = (chain.client_deadline_us - now_us) / US_PER_S
        total_by_client = client_s < total_s
        first_by_client = total_by_client and client_s <= first_s
        first_s, total_s = min(first_s, client_s), min(total_s, client_s)
    session = chain.requirements.session_id
    return UpstreamRequest(
        path=chain.parsed.path,
        body=_body(chain, candidate),
        request_id=f"{chain.request_id}-{chain.attempts}",
        stream=chain.streams_up,
        connect_timeout_s=limits.connect_timeout_s,
        first_token_timeout_s=max(0.0, first_s),
        stall_timeout_s=limits.stall_timeout_s,
        total_timeout_s=max(0.0, total_s),
        first_token_by_client=first_by_client,
        total_by_client=total_by_client,
        headers=_headers(chain, candidate, session),
        choices=0 if chain.parsed.media is not None else chain.requirements.sequences,
    )


def _headers(chain: Chain, candidate: Candidate, session: str | None) -> tuple[tuple[str, str], ...]:
    if chain.parsed.media is not None:
        headers: tuple[tuple[str, str], ...] = (("Content-Type", chain.parsed.content_type),)
    else:
        headers = () if session is None else ((SESSION_HEADER, session),)
    if chain.trace_parent is None or candidate.pool.terms is not None:
        return headers  # what an API of somebody else's logs is no part of the client's trace
    return (*headers, (tracing.HEADER, chain.trace_parent))


def _patience_s(chain: Chain, candidate: Candidate) -> float:
    """Seconds until the first token must be there, or, not streamed, the whole answer."""
    stated = chain.limits.first_token_timeout_s
    if chain.parsed.media is not None:
        return max(FIRST_TOKEN_AT_LEAST_S, MEDIA_TIMES * candidate.expected_s) if stated is None else stated
    first_s = max(FIRST_TOKEN_AT_LEAST_S, P95_TIMES * candidate.ttft_p95_s) if stated is None else stated
    if chain.streams_up:
        return first_s
    needs = chain.requirements
    tokens = max(1, needs.expected_output_tokens)
    per_token_s = max(0.0, candidate.expected_s - candidate.ttft_s) / tokens
    longest = needs.output_bound if needs.bounded else min(needs.output_bound, UNBOUNDED_TIMES * tokens)
    return first_s + WHOLE_ANSWER_TIMES * per_token_s * longest


def _body(chain: Chain, candidate: Candidate) -> bytes:
    if chain.parsed.media is not None:
        return media_body(chain.parsed, candidate.pool.served_model_name)
    fields = {"model": msgspec.json.encode(candidate.pool.served_model_name)}
    if chain.buffered:
        # An engine refuses options of a stream that is none.
        return without_fields(replace_fields(chain.parsed.body, {**fields, "stream": b"false"}), ("stream_options",))
    if chain.parsed.stream:
        fields["stream_options"] = STREAM_OPTIONS if candidate.pool.terms is None else API_STREAM_OPTIONS
        if chain.parsed.one_text and candidate.pool.engine == TAKES_TOKEN_IDS and not chain.parsed.prompt.images:
            fields["return_token_ids"] = b"true"  # with them another pool can go on if this stream breaks
    return replace_fields(chain.parsed.body, fields)
