"""What is promised of every failure, as data: class × kind of answer × moment × another pool or not.

Written by hand from what each failure should mean to a client, before the endpoint was asked. `docs/failures.md` shows
the same table (tests/docs/test_failures_page.py) and the endpoint keeps to it (tests/faults/test_fault_matrix.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pools.failures.classes import FailureClass as F


class Answer(StrEnum):
    """Whether the client asked for a stream."""

    WHOLE = "whole"
    STREAM = "stream"


class Moment(StrEnum):
    """When the pool fails: before its first byte of an answer, or after. A role without a word is no byte of it."""

    BEFORE = "before"
    AFTER = "after"


class Breaker(StrEnum):
    """What the failure does to the breaker of the pool that failed."""

    NONE = "none"
    COUNTS = "counts"
    SHAPE = "shape"
    PAUSE = "pause"
    MINUTE = "a minute"
    NOT_APPLICABLE = "–"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ends for its client.

    `code` is the error's; `in_stream` an error event after a 200; `tries` how often the pool that fails was tried;
    `next` whether another pool was then asked. `should_retry` and `retry_after` are headers. `outcome` is the ledger's.
    """

    outcome: str
    status: int
    code: str | None = None
    in_stream: bool = False
    should_retry: str | None = None
    retry_after: bool = False
    tries: int = 1
    next: bool = False


NEVER: Final = "cannot happen"
NEXT: Final = "served by the next pool"
CONTINUED: Final = "continued by the next pool"
SERVED: Final = "served, and counted as broken schema"
LEFT: Final = "nobody reads it"
CONTEXT: Final = "400 `context_length_exceeded`"
REFUSED: Final = "the engine's own 4xx"
SCHEMA: Final = "502 `schema_violation`"
FAILED: Final = "502 `chain_failed`"
FAILED_TWICE: Final = "502 `chain_failed` after two tries"
BUSY: Final = "503 `no_capable_pool` after `max_attempts` tries"
SLOW: Final = "504 `chain_timeout`"
ASLEEP: Final = "504 `chain_timeout` after two tries"
BROKEN: Final = "`stream_broken`"
BROKEN_TWICE: Final = "`stream_broken` after two tries"
BROKEN_BUSY: Final = "`stream_broken` after `max_attempts` tries"
AT_MOST: Final = 3  # `max_attempts` where a pool refuses each time

ENDINGS: Final = {
    NEXT: Ending("served", 200, next=True),
    CONTINUED: Ending("served", 200, next=True),
    SERVED: Ending("served", 200, tries=0),
    LEFT: Ending("client_gone", 499, "client_closed_request"),
    CONTEXT: Ending("refused", 400, "context_length_exceeded"),
    REFUSED: Ending("refused", 400, "upstream_refusal", should_retry="false"),
    SCHEMA: Ending("refused", 502, "schema_violation", should_retry="false"),
    FAILED: Ending("refused", 502, "chain_failed", should_retry="false"),
    FAILED_TWICE: Ending("refused", 502, "chain_failed", should_retry="false", tries=2),
    BUSY: Ending("refused", 503, "no_capable_pool", should_retry="true", retry_after=True, tries=AT_MOST),
    SLOW: Ending("refused", 504, "chain_timeout", should_retry="false"),
    ASLEEP: Ending("refused", 504, "chain_timeout", should_retry="false", tries=2),
    BROKEN: Ending("broken", 200, "stream_broken", in_stream=True),
    BROKEN_TWICE: Ending("broken", 200, "stream_broken", in_stream=True, tries=2),
    BROKEN_BUSY: Ending("broken", 200, "stream_broken", in_stream=True, tries=AT_MOST),
}


@dataclass(frozen=True, slots=True)
class Row:
    """Two cells: how it ends with another pool that could serve, and with this one `alone`. `by_client`: it is the
    client's own deadline that passes, a shorter one than the policy's.
    """

    failure: F
    answer: Answer
    moment: Moment
    with_another: str
    alone: str
    pays: str
    breaker: Breaker
    by_client: bool = False

    @property
    def name(self) -> str:
        """What the page calls the row."""
        return f"`{self.failure}`{', by the client' if self.by_client else ''}"


def _row(failure: F, answer: str, moment: str, with_another: str, alone: str, pays: str, breaker: Breaker) -> Row:
    return Row(failure, Answer(answer), Moment(moment), with_another, alone, pays, breaker)


def _by_client(answer: str, moment: str, ending: str) -> Row:
    """Nobody waits any more, so that another pool makes no difference."""
    return Row(F.TIMEOUT, Answer(answer), Moment(moment), ending, ending, "tenant", Breaker.NONE, by_client=True)


_NONE, _COUNTS, _SHAPE, _PAUSE, _MINUTE = Breaker.NONE, Breaker.COUNTS, Breaker.SHAPE, Breaker.PAUSE, Breaker.MINUTE
_NA = Breaker.NOT_APPLICABLE

MATRIX: Final = (
    _row(F.CONTEXT_OVERFLOW, "whole", "before", NEXT, CONTEXT, "tenant", _NONE),
    _row(F.CONTEXT_OVERFLOW, "whole", "after", NEXT, CONTEXT, "tenant", _NONE),
    _row(F.CONTEXT_OVERFLOW, "stream", "before", NEXT, CONTEXT, "tenant", _NONE),
    _row(F.CONTEXT_OVERFLOW, "stream", "after", CONTINUED, BROKEN, "tenant", _NONE),
    _row(F.OUT_OF_MEMORY, "whole", "before", NEXT, FAILED, "house", _SHAPE),
    _row(F.OUT_OF_MEMORY, "whole", "after", NEXT, FAILED, "house", _SHAPE),
    _row(F.OUT_OF_MEMORY, "stream", "before", NEXT, FAILED, "house", _SHAPE),
    _row(F.OUT_OF_MEMORY, "stream", "after", CONTINUED, BROKEN, "house", _SHAPE),
    _row(F.TIMEOUT, "whole", "before", NEXT, SLOW, "house", _COUNTS),
    _row(F.TIMEOUT, "whole", "after", NEXT, SLOW, "house", _COUNTS),
    _row(F.TIMEOUT, "stream", "before", NEXT, SLOW, "house", _COUNTS),
    _row(F.TIMEOUT, "stream", "after", CONTINUED, BROKEN, "house", _COUNTS),
    _by_client("whole", "before", SLOW),
    _by_client("whole", "after", SLOW),
    _by_client("stream", "before", SLOW),
    _by_client("stream", "after", BROKEN),
    _row(F.COLD, "whole", "before", NEXT, ASLEEP, "house", _NONE),
    _row(F.COLD, "whole", "after", NEVER, NEVER, "–", _NA),
    _row(F.COLD, "stream", "before", NEXT, ASLEEP, "house", _NONE),
    _row(F.COLD, "stream", "after", NEVER, NEVER, "–", _NA),
    _row(F.OVERLOADED, "whole", "before", NEXT, BUSY, "house", _PAUSE),
    _row(F.OVERLOADED, "whole", "after", NEXT, BUSY, "house", _PAUSE),
    _row(F.OVERLOADED, "stream", "before", NEXT, BUSY, "house", _PAUSE),
    _row(F.OVERLOADED, "stream", "after", CONTINUED, BROKEN_BUSY, "house", _PAUSE),
    _row(F.UNAVAILABLE, "whole", "before", NEXT, FAILED_TWICE, "house", _COUNTS),
    _row(F.UNAVAILABLE, "whole", "after", NEXT, FAILED_TWICE, "house", _COUNTS),
    _row(F.UNAVAILABLE, "stream", "before", NEXT, FAILED_TWICE, "house", _COUNTS),
    _row(F.UNAVAILABLE, "stream", "after", CONTINUED, BROKEN_TWICE, "house", _COUNTS),
    _row(F.MISCONFIGURED, "whole", "before", NEXT, FAILED, "house", _MINUTE),
    _row(F.MISCONFIGURED, "whole", "after", NEXT, FAILED, "house", _MINUTE),
    _row(F.MISCONFIGURED, "stream", "before", NEXT, FAILED, "house", _MINUTE),
    _row(F.MISCONFIGURED, "stream", "after", CONTINUED, BROKEN, "house", _MINUTE),
    _row(F.BAD_OUTPUT, "whole", "before", NEXT, FAILED, "tenant", _NONE),
    _row(F.BAD_OUTPUT, "whole", "after", NEXT, SCHEMA, "tenant", _NONE),
    _row(F.BAD_OUTPUT, "stream", "before", NEXT, FAILED, "tenant", _NONE),
    _row(F.BAD_OUTPUT, "stream", "after", SERVED, SERVED, "tenant", _NONE),
    _row(F.CLIENT_ERROR, "whole", "before", REFUSED, REFUSED, "tenant", _NONE),
    _row(F.CLIENT_ERROR, "whole", "after", REFUSED, REFUSED, "tenant", _NONE),
    _row(F.CLIENT_ERROR, "stream", "before", REFUSED, REFUSED, "tenant", _NONE),
    _row(F.CLIENT_ERROR, "stream", "after", BROKEN, BROKEN, "tenant", _NONE),
    _row(F.CLIENT_GONE, "whole", "before", LEFT, LEFT, "tenant", _NONE),
    _row(F.CLIENT_GONE, "whole", "after", LEFT, LEFT, "tenant", _NONE),
    _row(F.CLIENT_GONE, "stream", "before", LEFT, LEFT, "tenant", _NONE),
    _row(F.CLIENT_GONE, "stream", "after", LEFT, LEFT, "tenant", _NONE),
)
