"""A smallest valid value for a simple JSON schema, so that structured answers hold what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAMPLES: Mapping[str, Any] = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}
_DEPTH = 16  # recursive schemas end here


class BadSchema(ValueError):
    """The schema asks for something that no grammar can be made of."""


def example(schema: object, root: object = None, depth: int = 0) -> Any:
    """A value that satisfies a schema of types, properties, items, enum, const, anyOf, oneOf, allOf and $ref.

    Raises BadSchema for an unknown type, as vLLM's grammar compiler does.
    """
    root = schema if root is None else root
    if schema is True or schema == {} or depth > _DEPTH:
        return {}
    if not isinstance(schema, Mapping):
        raise BadSchema(f"Invalid schema: {schema!r}")
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return example(_resolve(schema["$ref"], root), root, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], root, depth + 1)
    kind = schema.get("type", "object")
    return _of_type(kind[0] if isinstance(kind, list) and kind else kind, schema, root, depth)


def _of_type(kind: object, schema: Mapping[str, Any], root: object, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: example(inner, root, depth + 1) for name, inner in properties.items()}
    if kind == "array":
        return [example(schema.get("items", {}), root, depth + 1) for _ in range(max(1, schema.get("minItems", 1)))]
    if kind not in _SAMPLES:
        raise BadSchema(f"Invalid type: {kind}")
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    if kind == "string":
        return str(_SAMPLES["string"]).ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    return _SAMPLES[str(kind)]


def _resolve(reference: object, root: object) -> object:
    """Follow `#/a/b` inside the root schema."""
    node = root
    for step in filter(None, str(reference).removeprefix("#").split("/")):
        if not isinstance(node, Mapping) or step not in node:
            raise BadSchema(f"Cannot resolve {reference}")
        node = node[step]
    return node
