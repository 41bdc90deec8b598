"""Does a model's answer fit a client's JSON schema. Neither is ours, so neither may cost more than a moment's work.

What cannot be judged counts as fitting: an engine that was asked for a schema generates by it, this is a second look.
That goes for schemas that are wrong, large, hold regular expressions (one of which can keep Python busy for ever),
refer to something outside (nothing is fetched), or take too many steps (references that double at each level).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import jsonschema
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import CannotDetermineSpecification, Unresolvable

SCHEMA_BYTES: Final = 64 * 1024  # a larger one is not judged; checking it takes longer than most answers
STEPS: Final = 100_000  # about 0.2 s; an array of 5,000 small objects takes this many
KEPT: Final = 128  # schemas; a program sends the same few again and again

_REGULAR: Final = frozenset({"pattern", "patternProperties"})
_QUADRATIC: Final = frozenset({"uniqueItems"})
# What the validator raises at schemas that its meta-schema lets pass: a `$ref` that is no URL, a pointer into a number.
_UNJUDGED: Final = (
    jsonschema.SchemaError,
    jsonschema.exceptions.UnknownType,
    Unresolvable,
    CannotDetermineSpecification,
    RecursionError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
)
_Rule = Callable[[Any, Any, Any, Any], Iterator[jsonschema.ValidationError] | None]


class _TooMuchWork(Exception):
    """A check has taken its steps."""


class _Steps:
    """What one check may still do. Checks run one after the other: none of them waits for anything."""

    left = 0


def breaks_schema(schema: bytes, text: str) -> str | None:
    """What is wrong with an answer; None when nothing is known to be.

    The rule that it breaks is named, a word of JSON Schema; the place is not, since it would quote the answer's keys.
    """
    try:
        document = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError:
        return "the answer is not valid JSON"
    except (RecursionError, ValueError):  # an integer of thousands of digits is JSON that Python does not read
        return None
    checker = _checker(schema)
    if checker is None:
        return None
    _Steps.left = STEPS
    try:
        error = next(iter(checker.iter_errors(document)), None)
    except (_TooMuchWork, *_UNJUDGED):
        return None
    return None if error is None else f"the answer breaks the schema: rule '{error.validator or False}'"


def _no_number(word: str) -> None:
    """`NaN` and `Infinity`, which Python reads and JSON does not have."""
    raise json.JSONDecodeError("no number", word, 0)


@lru_cache(KEPT)
def _checker(schema: bytes) -> Validator | None:
    """A validator for a schema; None for one that is not judged."""
    if len(schema) > SCHEMA_BYTES:
        return None
    try:
        document = json.loads(schema)
        if _is_regular(document):
            return None
        jsonschema.Draft202012Validator.check_schema(document)
        return _COUNTING(document, registry=Registry())
    except _UNJUDGED:
        return None


def _is_regular(schema: Any) -> bool:
    """Whether a regular expression stands anywhere. A property of such a name counts too: it is only not judged."""
    if isinstance(schema, dict):
        return not _REGULAR.isdisjoint(schema) or any(_is_regular(value) for value in schema.values())
    return isinstance(schema, list) and any(_is_regular(value) for value in schema)


def _counted(rule: _Rule) -> _Rule:
    """The rule, at the price of one step, and one more for each entry that it is given (an enum's values, say)."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        _Steps.left -= 1 + (len(value) if isinstance(value, list | dict) else 0)
        if _Steps.left < 0:
            raise _TooMuchWork
        yield from rule(validator, value, instance, schema) or ()

    return check


def _unjudged(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """In place of a rule that takes the square of the answer's length."""


_RULES: Final[Mapping[str, _Rule]] = jsonschema.Draft202012Validator.VALIDATORS
_COUNTING: Final[Callable[..., Validator]] = jsonschema.validators.extend(  # type: ignore[no-untyped-call] # as stubbed
    jsonschema.Draft202012Validator,
    {name: _counted(_unjudged if name in _QUADRATIC else rule) for name, rule in _RULES.items()},
)
