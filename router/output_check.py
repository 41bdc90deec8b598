"""Is a complete answer what was asked for: not empty, and JSON that fits the schema where one was given."""

from __future__ import annotations

from typing import Final

from router.answers import texts_of
from router.inbound import Parsed

EMPTY: Final = "the answer is empty"


def problem_of(parsed: Parsed, body: bytes) -> str | None:
    """What is wrong with an answer, without quoting it; None when nothing is.

    An answer cut off at the client's own `max_tokens` is what the client asked for, whatever it holds.
    """
    for finish_reason, text, calls_tools in texts_of(body):
        if calls_tools or (finish_reason == "length" and parsed.max_tokens is not None):
            continue
        if not text.strip():
            return EMPTY
        if parsed.json_schema is not None:
            from router.schema_check import breaks_schema  # costs 60 ms to import, and most never ask for a schema

            problem = breaks_schema(parsed.json_schema, text)
            if problem is not None:
                return problem
    return None
