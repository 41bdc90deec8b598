"""Is a complete answer what was asked for: not empty, and JSON that fits the schema where one was given."""

from __future__ import annotations

import json

from router.answers import texts_of
from router.inbound import Parsed


def problem_of(parsed: Parsed, body: bytes) -> str | None:
    """What is wrong with an answer, without quoting it; None when nothing is.

    An answer cut off at the client's own `max_tokens` is what the client asked for, whatever it holds.
    """
    for finish_reason, text, calls_tools in texts_of(body):
        if calls_tools or (finish_reason == "length" and parsed.max_tokens is not None):
            continue
        if not text.strip():
            return "the answer is empty"
        if parsed.json_schema is not None and (problem := _breaks_schema(parsed.json_schema, text)):
            return problem
    return None


def _breaks_schema(schema: bytes, text: str) -> str | None:
    import jsonschema  # costs 60 ms to import, and most deployments never validate

    try:
        document = json.loads(text)
    except ValueError:
        return "the answer is not valid JSON"
    try:
        jsonschema.validate(document, json.loads(schema))
    except jsonschema.ValidationError as error:
        where = "/".join(str(step) for step in error.absolute_path) or "the top"
        return f"the answer breaks the schema at {where}: rule '{error.validator}'"
    except jsonschema.SchemaError:
        return None  # the engine accepted the schema; what a validator thinks of it is not the answer's fault
    return None
