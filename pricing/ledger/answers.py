"""Complete answers of the past, as much of them as says how long answers get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pricing.ledger.codec import tags_from
from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading

_COMPLETE: Final = "outcome = 'served' AND prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL"
_COLUMNS: Final = (
    "at_us, at_us + duration_us, tenant, request_class, prompt_tokens, completion_tokens, max_tokens, features, "
    "stream, sequences"
)
_NEWEST: Final = f"SELECT {_COLUMNS} FROM requests WHERE {_COMPLETE} ORDER BY at_us DESC LIMIT ?"
_BEGIN: Final = "SELECT at_us FROM requests WHERE at_us < ? ORDER BY at_us DESC LIMIT 1 OFFSET ?"
_PAGE: Final = (
    f"SELECT {_COLUMNS}, request_id, {_COMPLETE} FROM requests WHERE (at_us, request_id) > (?, ?) AND at_us < ? "
    "ORDER BY at_us, request_id LIMIT ?"
)


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

    @property
    def tokens_each(self) -> int:
        """Of one sequence."""
        return self.completion_tokens // self.sequences


class Page(msgspec.Struct, frozen=True):
    """Complete answers, those asked for first at the front. `last` is the request that the next page comes after, by
    instant and id, complete or not; None where there was none any more.
    """

    answers: list[PastAnswer]
    last: tuple[int, str] | None


def newest_answers(place: LedgerPlace, limit: int) -> list[PastAnswer]:
    """The newest complete answers, newest first. Raises StoreUnavailable."""
    with reading(place) as ledger:
        rows = ledger.execute(_NEWEST, [limit]).fetchall()
    return [_answer(row) for row in rows]


def newest_since(place: LedgerPlace, requests: int, before_us: int) -> int:
    """The instant from which on the newest so many requests were asked for, of those before an instant; 0 where there
    are fewer. Reads nothing but the index of their times. Raises StoreUnavailable.
    """
    with reading(place) as ledger:
        found = ledger.execute(_BEGIN, [before_us, requests - 1]).fetchone()
    return 0 if found is None else int(found[0])


def answers_after(place: LedgerPlace, after: tuple[int, str], before_us: int, requests: int) -> Page:
    """The complete answers among the next so many requests after one, by instant and id, that were asked for before an
    instant. Raises StoreUnavailable.
    """
    with reading(place) as ledger:
        rows = ledger.execute(_PAGE, [*after, before_us, requests]).fetchall()
    answers = [_answer(columns) for *columns, _, complete in rows if complete]
    return Page(answers, (rows[-1][0], rows[-1][-2]) if rows else None)


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
