"""Changing named fields of a JSON object in its bytes; everything else stays byte for byte.

A body is never decoded and encoded again on its way up, and a chunk never on its way down: what the client or the
engine wrote is what arrives, number formats, key order and white space included. msgspec checks the JSON and says how
long each value is, in one pass of C; walking over the fields is all that is left to do here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from operator import attrgetter
from typing import Final

import msgspec

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'  # well-formed JSON has no raw newline in a string
# What follows a value (or begins the object): the next name up to its value, or the closing brace.
_NEXT: Final = re.compile(rb"[ \t\n\r]*(?:[{,][ \t\n\r]*(" + _STRING + rb")[ \t\n\r]*:[ \t\n\r]*|\{?[ \t\n\r]*\})")
_SCALAR: Final = re.compile(_STRING + rb"|[^\s,\]}\"]+")
_BRACKETS: Final = re.compile(_STRING + rb"|[\[\]{}]")
_WHITE_SPACE: Final = b" \t\n\r"
_BY_PLACE: Final = attrgetter("start")


class _Field(msgspec.Struct, frozen=True, gc=False):
    """One member of the object: `start` at its name, `value` to `end` its value."""

    name: str
    start: int
    value: int
    end: int


def replace_fields(body: bytes, fields: Mapping[str, bytes]) -> bytes:
    """Set top-level fields to new JSON values; one that is missing is put first. Every one of a repeated name is set.

    Raises msgspec.DecodeError where `body` is no JSON object.
    """
    values = _OBJECT.decode(body)
    missing = {name: new for name, new in fields.items() if name not in values}
    if len(missing) < len(fields):
        parts: list[bytes] = []
        done = 0
        for field in _named(body, fields, values):
            parts += (body[done : field.value], fields[field.name])
            done = field.end
        parts.append(body[done:])
        body = b"".join(parts)
    return _with_first(body, missing) if missing else body


def without_fields(body: bytes, names: Collection[str]) -> bytes:
    """Take top-level fields out, each with one comma. Raises msgspec.DecodeError where `body` is no JSON object."""
    values = _OBJECT.decode(body)
    there = [name for name in names if name in values]
    if not there:
        return body
    for field in reversed(_named(body, there, values)):
        body = _cut_out(body, field)
    return body


def without_choice_fields(chunk: bytes, names: Collection[str]) -> bytes:
    """Take fields out of each object of the top-level array `choices`, as `token_ids`; other fields stay."""
    for field in reversed(_fields(chunk, _OBJECT.decode(chunk))):
        if field.name == "choices" and chunk.startswith(b"[", field.value):
            choices = [without_fields(bytes(choice), names) for choice in _LIST.decode(chunk[field.value : field.end])]
            return chunk[: field.value] + b"[" + b",".join(choices) + b"]" + chunk[field.end :]
    return chunk


def _with_first(body: bytes, fields: Mapping[str, bytes]) -> bytes:
    at = body.index(b"{") + 1
    added = b",".join(msgspec.json.encode(name) + b":" + value for name, value in fields.items())
    empty = body[at:].lstrip(_WHITE_SPACE).startswith(b"}")
    return body[:at] + added + (b"" if empty else b",") + body[at:]


def _cut_out(body: bytes, field: _Field) -> bytes:
    """Without the field, and without the comma before it or, for the first field, after it."""
    before = body[: field.start].rstrip(_WHITE_SPACE)
    if before.endswith(b","):
        return before[:-1] + body[field.end :]
    after = body[field.end :].lstrip(_WHITE_SPACE)
    return body[: field.start] + after.removeprefix(b",")


def _sole_field(body: bytes, name: str, values: Mapping[str, msgspec.Raw]) -> _Field | None:
    """The field by a plain search, where that is certain: its name is known to be there and is written only once.

    Inside a string its quotes would be escaped, and a letter of a name, all of which are ASCII, only as `\\u00XX`.
    """
    token = msgspec.json.encode(name)
    start = body.find(token)
    if start < 0 or body.find(token, start + 1) >= 0 or b"\\u00" in body:
        return None
    value = body.index(b":", start + len(token)) + 1
    while body[value] in _WHITE_SPACE:
        value += 1
    return _Field(name, start, value, value + len(memoryview(values[name])))


def _named(body: bytes, names: Collection[str], values: Mapping[str, msgspec.Raw]) -> list[_Field]:
    """The top-level fields of these names, in order. `values` is the decoded body."""
    found: list[_Field] = []
    for name in names:
        if name in values:
            field = _sole_field(body, name, values)
            if field is None:
                return [one for one in _fields(body, values) if one.name in names]
            found.append(field)
    return sorted(found, key=_BY_PLACE) if len(found) > 1 else found


def _fields(body: bytes, values: Mapping[str, msgspec.Raw]) -> list[_Field]:
    """Every top-level field in order. `values` is the decoded body, so the JSON is known to be well-formed."""
    fields: list[_Field] = []
    found = _NEXT.match(body)
    while found and (token := found[1]):
        name = msgspec.json.decode(token, type=str) if b"\\" in token else token[1:-1].decode()
        start, value, last = found.start(1), found.end(), values[name]
        end = value + len(memoryview(last))
        found = _NEXT.match(body, end) if body.startswith(last, value) else None
        if found is None:  # not this value but a later one of the same name is in `values`
            end = _scan_value(body, value)
            found = _NEXT.match(body, end)
        fields.append(_Field(name, start, value, end))
    return fields


def _scan_value(body: bytes, start: int) -> int:
    """Where the value at `start` ends, the slow way."""
    if not body.startswith((b"{", b"["), start):
        scalar = _SCALAR.match(body, start)
        return scalar.end() if scalar else start
    depth = 0
    for token in _BRACKETS.finditer(body, start):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return token.end()
    return start
