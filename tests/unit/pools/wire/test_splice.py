"""Fields replaced and taken out in bytes, everything else left alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.wire.splice import replace_fields, without_choice_fields, without_fields

NAMES = ["model", "usage", "stream_options", "messages", "a", 'quo"te', "back\\slash", "ü", "{", ""]
name = st.sampled_from(NAMES)
scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(['"usage":', '"usage"', "usage", "},{"])
value: st.SearchStrategy[Any] = st.recursive(
    scalar | text | name, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3)
)
space = st.sampled_from(["", " ", "\n", "\t\r\n "])


@st.composite
def spelled(draw: st.DrawFn) -> tuple[list[tuple[str, Any]], bytes]:
    """Members, repeated names included, and a JSON text of them with odd spacing and escapes."""
    members = draw(st.lists(st.tuples(name, value), max_size=6))
    parts = []
    for key, content in members:
        token = draw(st.sampled_from([json.dumps(key), json.dumps(key, ensure_ascii=False), escaped(key)]))
        content_text = json.dumps(content, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        parts.append(f"{draw(space)}{token}{draw(space)}:{draw(space)}{content_text}{draw(space)}")
    return members, f"{draw(space)}{{{','.join(parts) or draw(space)}}}{draw(space)}".encode()


def escaped(key: str) -> str:
    """The name with every letter as \\uXXXX."""
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in key) + '"'


@given(spelled(), st.dictionaries(name, value, max_size=3))
def test_replaced_fields_are_new_and_all_others_unchanged(
    case: tuple[list[tuple[str, Any]], bytes], fields: dict[str, Any]
) -> None:
    """By an independent reader: named top-level fields have their new value wherever they stand, the rest its old."""
    members, body = case
    changed = replace_fields(body, {key: json.dumps(new).encode() for key, new in fields.items()})
    there = {key for key, _ in members}
    added = [(key, new) for key, new in fields.items() if key not in there]
    expected = added + [(key, fields.get(key, old) if key in fields else old) for key, old in members]
    assert top_level(changed) == [(key, json.dumps(content)) for key, content in expected]


@given(spelled(), st.sets(name, max_size=3))
def test_fields_taken_out_are_gone_and_all_others_unchanged(
    case: tuple[list[tuple[str, Any]], bytes], names: set[str]
) -> None:
    """By an independent reader: what was named is gone, repeated or not, and what was not is as it was."""
    members, body = case
    left = without_fields(body, names)
    assert top_level(left) == [(key, json.dumps(content)) for key, content in members if key not in names]
    if not names & {key for key, _ in members}:
        assert left == body


def top_level(body: bytes) -> list[tuple[str, str]]:
    """Names and values (as JSON text) of the outermost object in order, repeated names included."""
    depth: list[list[tuple[str, Any]]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        depth.append(found)
        return dict(found)

    json.loads(body, object_pairs_hook=keep)
    return [(key, json.dumps(content)) for key, content in depth[-1]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","x":1.50}', b'{"model":"b","x":1.50}'),
        (b' { "x" : 1e5 , "model" : "a" } ', b' { "x" : 1e5 , "model" : "b" } '),
        (b'{"m":{"model":"a"}}', b'{"model":"b","m":{"model":"a"}}'),
        (b"{}", b'{"model":"b"}'),
        (b"{ \n}", b'{"model":"b" \n}'),
        (b'{"mod\\u0065l":"a","y":{"model":"a"}}', b'{"mod\\u0065l":"b","y":{"model":"a"}}'),
        (b'{"model":1,"model":12}', b'{"model":"b","model":"b"}'),
        (b'{"x":1,"x":12,"model":0}', b'{"x":1,"x":12,"model":"b"}'),
        (b'{"x":[1,{"]":"}"}],"x":{},"model":0}', b'{"x":[1,{"]":"}"}],"x":{},"model":"b"}'),
    ],
)
def test_bytes_around_a_replaced_field_stay(body: bytes, expected: bytes) -> None:
    """Number formats, spacing, escapes, nested fields of the same name and repeated names stay as they were."""
    assert replace_fields(body, {"model": b'"b"'}) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1,"usage":{"x":1}}', b'{"a":1}'),
        (b'{"usage":{"x":1},"a":1}', b'{"a":1}'),
        (b'{"usage":null}', b"{}"),
        (b'{"a":1, "usage" : null , "b":2}', b'{"a":1 , "b":2}'),
        (b'{"a":"usage","usage":1}', b'{"a":"usage"}'),
        (b'{"a":"\\"usage\\":","usage":1}', b'{"a":"\\"usage\\":"}'),
        (b'{"us\\u0061ge":1,"a":{"usage":1}}', b'{"a":{"usage":1}}'),
        (b'{"usage":1,"a":0,"usage":2}', b'{"a":0}'),
    ],
)
def test_a_field_goes_with_one_comma(body: bytes, expected: bytes) -> None:
    """First, last, only, in the middle, named in a text, nested, escaped, repeated."""
    assert without_fields(body, ("usage",)) == expected


def test_token_ids_leave_every_choice() -> None:
    """Fields of the choices go; fields of the same name elsewhere stay."""
    chunk = b'{"token_ids":[1],"choices":[ {"index":0,"token_ids":[1,2]}, {"token_ids":null,"index":1}],"z":0}'
    assert without_choice_fields(chunk, ("token_ids",)) == (
        b'{"token_ids":[1],"choices":[{"index":0},{"index":1}],"z":0}'
    )
    assert without_choice_fields(b'{"choices":null}', ("token_ids",)) == b'{"choices":null}'
    assert without_choice_fields(b"{}", ("token_ids",)) == b"{}"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a":1', b"null", b'{"a":1}}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Both functions raise for bytes that are no JSON object."""
    with pytest.raises(msgspec.DecodeError):
        replace_fields(body, {"model": b"1"})
    with pytest.raises(msgspec.DecodeError):
        without_fields(body, ("a",))
