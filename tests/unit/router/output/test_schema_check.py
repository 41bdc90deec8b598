"""A client's schema and a model's answer are judged without trusting either."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from router.output.schema_check import SCHEMA_BYTES, breaks_schema

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DOUBLING = {
    "$defs": {**{f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)}, "a60": {}},
    "$ref": "#/$defs/a0",
}


def judged(schema: Any, answer: Any) -> str | None:
    return breaks_schema(json.dumps(schema).encode(), json.dumps(answer))


def test_an_answer_that_fits_is_good() -> None:
    """Nothing is wrong with JSON that keeps to every rule."""
    assert judged(CITY, {"city": "Bonn", "days": 3}) is None


@pytest.mark.parametrize(
    ("schema", "answer", "rule"),
    [
        (CITY, {"days": 3}, "required"),
        (CITY, {"city": 5}, "type"),
        ({"enum": ["a", "b"]}, "c", "enum"),
        ({"type": "array", "items": CITY}, [{"city": "Bonn"}, {}], "required"),
        (False, 1, "False"),
    ],
)
def test_a_broken_rule_is_named(schema: Any, answer: Any, rule: str) -> None:
    """The word of JSON Schema that the answer breaks is what operators read."""
    assert judged(schema, answer) == f"the answer breaks the schema: rule '{rule}'"


def test_the_answer_is_never_quoted() -> None:
    """A key that the model made up stands in no message: messages go to logs."""
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    problem = judged(schema, {"a secret of the model": "x"})
    assert problem == "the answer breaks the schema: rule 'type'"


@pytest.mark.parametrize("text", ["", "hello", '{"city": "Bo', '{"city": NaN}', "[-Infinity]"])
def test_what_is_no_json_breaks_every_schema(text: str) -> None:
    """Text, half an object, and words for what is no number are not JSON that was asked for."""
    assert breaks_schema(json.dumps(CITY).encode(), text) == "the answer is not valid JSON"


def test_a_number_that_python_does_not_read_is_not_judged() -> None:
    """An integer of thousands of digits is JSON; what cannot be judged counts as fitting."""
    assert breaks_schema(json.dumps(CITY).encode(), '{"city": ' + "9" * 5_000 + "}") is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"properties": 5},
        5,
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": "#/enum/x", "enum": [1]},
        {"$id": "http://[no-url", "$ref": "x"},
        {"$dynamicRef": "#nowhere"},
        {"type": "string", "pattern": "(a+)+$"},
        {"patternProperties": {"(a+)+$": False}, "additionalProperties": False},
        {"enum": ["x" * SCHEMA_BYTES]},
        DOUBLING,
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_what_cannot_be_judged_counts_as_fitting(schema: Any) -> None:
    """A wrong, endless, too large or regular schema is not the answer's fault, and does not stop the endpoint."""
    assert judged(schema, {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!": 1}) is None


def test_a_check_ends_whatever_the_answer_s_length() -> None:
    """Work that grows with schema times answer, or with the square of the answer, is not done."""
    assert judged({"items": {"enum": list(range(9_000))}}, [8_999] * 5_000) is None
    assert judged({"uniqueItems": True}, [{}] * 20_000) is None
    assert breaks_schema(json.dumps(CITY).encode(), "[" * 100_000 + "]" * 100_000) is None


def test_nothing_is_fetched() -> None:
    """A schema that refers to another host makes no connection: a client must not choose whom the router calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        assert judged({"$ref": f"http://127.0.0.1:{port}/schema.json"}, {}) is None
        with pytest.raises(BlockingIOError):
            server.accept()
