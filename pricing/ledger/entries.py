"""Rows of the ledger as entries of the stream that carries them from Redis to PostgreSQL, and back.

An entry is a flat list of fields and values, as XADD takes it and XRANGE gives it. There are two kinds:

    k=rows    rows=[LedgerRow, …] as JSON, request=RequestRow as JSON (absent if the entry ends no request)
    k=filled  row=LedgerRow as JSON, a template; kind, account, row_id, duration, estimated, boots, evidence (each
              optional) and amount, metered, at replace its fields: nano-dollars and microseconds as decimal text

The second is for what a script decides by itself: what an expired hold cost, what containers did. Scripts never read
JSON and write no number into it, since their numbers are doubles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from pricing.ledger.rows import Evidence, LedgerRow, RequestRow, RowKind

_INT64: Final = 2**63
_rows_json: Final = msgspec.json.Decoder(list[LedgerRow])
_row_json: Final = msgspec.json.Decoder(LedgerRow)
_request_json: Final = msgspec.json.Decoder(RequestRow)
_encoder: Final = msgspec.json.Encoder()
_Value = TypeVar("_Value", bound=LedgerRow | RequestRow)


class BadEntry(ValueError):
    """An entry that is no ledger entry; the message says which field is wrong, and holds no value of it."""


class Entry(msgspec.Struct, frozen=True):
    """What one entry says: rows of money, and the summary of the request that they end."""

    rows: tuple[LedgerRow, ...]
    request: RequestRow | None = None


def rows_json(rows: Sequence[LedgerRow]) -> bytes:
    """The field `rows`. Text that UTF-8 cannot hold (half a surrogate pair) becomes question marks."""
    try:
        return _encoder.encode(rows)
    except UnicodeEncodeError:
        return _encoder.encode([_plain(row) for row in rows])


def value_json(value: LedgerRow | RequestRow) -> bytes:
    """The field `request`, or `row` of an entry whose amounts a script fills in."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_plain(value))


def rows_entry(rows: Sequence[LedgerRow], request: RequestRow | None = None) -> list[bytes]:
    """Fields and values of an entry for rows that are known in full."""
    fields = [b"k", b"rows", b"rows", rows_json(rows)]
    return fields if request is None else [*fields, b"request", value_json(request)]


def decode(fields: Mapping[bytes, bytes]) -> Entry:
    """What an entry says. Raises BadEntry."""
    kind = fields.get(b"k")
    try:
        if kind == b"rows":
            return _decode_rows(fields)
        if kind == b"filled":
            return Entry((_decode_filled(fields),))
    except KeyError as missing:
        raise BadEntry(f"field {missing.args[0].decode()} is missing") from None
    raise BadEntry("field k is not one of rows, filled")


def _decode_rows(fields: Mapping[bytes, bytes]) -> Entry:
    request = fields.get(b"request")
    return Entry(
        tuple(_json(_rows_json, "rows", fields[b"rows"])),
        None if request is None else _json(_request_json, "request", request),
    )


def _decode_filled(fields: Mapping[bytes, bytes]) -> LedgerRow:
    row: LedgerRow = _json(_row_json, "row", fields[b"row"])
    changes: dict[str, Any] = {
        "amount_nusd": _integer(fields, b"amount"),
        "metered_nusd": _integer(fields, b"metered"),
        "at_us": _integer(fields, b"at"),
    }
    for name, column in ((b"duration", "duration_us"), (b"boots", "boots")):
        if name in fields:
            changes[column] = _integer(fields, name)
    if b"estimated" in fields:
        changes["estimated"] = _flag(fields[b"estimated"])
    for column in ("account", "row_id"):
        if (value := fields.get(column.encode())) is not None:
            changes[column] = _text(column, value)
    for column, words in (("kind", RowKind), ("evidence", Evidence)):
        if (value := fields.get(column.encode())) is not None:
            changes[column] = _word(column, words, value)
    return msgspec.structs.replace(row, **changes)


def _json(decoder: msgspec.json.Decoder[Any], name: str, value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEntry(f"field {name}: {error}") from None


def _integer(fields: Mapping[bytes, bytes], name: bytes) -> int:
    text = fields[name]
    digits = text[1:] if text.startswith(b"-") else text
    if not digits.isdigit() or len(digits) > 19 or not -_INT64 <= int(text) < _INT64:
        raise BadEntry(f"field {name.decode()} is not an integer of 64 bits")
    return int(text)


def _flag(value: bytes) -> bool:
    if value not in (b"0", b"1"):
        raise BadEntry("field estimated is not 0 or 1")
    return value == b"1"


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadEntry(f"field {name} is not UTF-8") from None


def _word(name: str, words: type[StrEnum], value: bytes) -> StrEnum:
    try:
        return words(value.decode("ascii", "replace"))
    except ValueError:
        raise BadEntry(f"field {name} is not one of {', '.join(words)}; a newer program may know it") from None


def _plain(value: _Value) -> _Value:
    """The same with text that UTF-8 can hold."""
    changes = {
        name: text.encode("utf-8", "replace").decode()
        for name in value.__struct_fields__
        if type(text := getattr(value, name)) is str
    }
    tags = tuple(tag.encode("utf-8", "replace").decode() for tag in value.tags)
    return msgspec.structs.replace(value, **changes, tags=tags)
