"""Sample values satisfy the schemas they are made from."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from pools.simulator.schema import BadSchema, example

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"]},
    {"type": "array", "items": {"type": "integer", "minimum": 5}, "minItems": 2},
    {"anyOf": [{"type": "null"}, {"type": "string"}]},
    {"type": ["string", "null"], "minLength": 9},
    {"type": "string", "maxLength": 2},
    {"const": 3},
    {"$defs": {"n": {"type": "number"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}},
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_sample_is_valid(schema: dict[str, Any]) -> None:
    """A validator accepts what was made up."""
    jsonschema.validate(example(schema), schema)


def test_recursion_ends() -> None:
    """A schema that contains itself yields a value all the same."""
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert "child" in example(tree)


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, "text", {"$ref": "#/nowhere"}], ids=str)
def test_what_no_grammar_can_be_made_of_is_refused(schema: object) -> None:
    """An unknown type, a schema that is no object and a dangling reference are errors."""
    with pytest.raises(BadSchema):
        example(schema)
