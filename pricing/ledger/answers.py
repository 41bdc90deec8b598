"""Complete answers of the past, as much of them as says how long answers get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pricing.ledger.codec import tags_from
from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading

_NEWEST = """
SELECT at_us, at_us + duration_us, tenant, request_class, prompt_tokens, completion_tokens, max_tokens, features,
       stream, sequences
FROM requests
WHERE outcome = 'served' AND prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL
ORDER BY at_us DESC LIMIT ?
"""


class PastAnswer(msgspec.Struct, frozen=True, gc=False):
    """Instants are microseconds since the epoch. `completion_tokens` is that of all `sequences` together, `max_tokens`
    the client's bound of each.
    """

    at_us: int
    ended_us: int
    tenant: str
    request_class: str
    prompt_tokens: int
    completion_tokens: int
    max_tokens: int | None
    features: tuple[str, ...]
    stream: bool
    sequences: int


def newest_answers(place: LedgerPlace, limit: int) -> list[PastAnswer]:
    """The newest complete answers, newest first. Raises StoreUnavailable."""
    with reading(place) as ledger:
        rows = ledger.execute(_NEWEST, [limit]).fetchall()
    return [_answer(row) for row in rows]


def _answer(row: Sequence[Any]) -> PastAnswer:
    at_us, ended_us, tenant, request_class, prompt, completion, max_tokens, features, stream, sequences = row
    return PastAnswer(
        at_us,
        ended_us,
        tenant,
        request_class,
        prompt,
        completion,
        max_tokens,
        tags_from(features),
        bool(stream),
        sequences,
    )
