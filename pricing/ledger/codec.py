"""Ledger values as the columns of their tables, and back.

The column lists follow the structs of `pricing.ledger.rows` field by field; a test holds them against the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from pricing.ledger.rows import Evidence, LedgerRow, RequestRow, RowKind, SchemaResult

ROW_COLUMNS: Final = LedgerRow.__struct_fields__
REQUEST_COLUMNS: Final = RequestRow.__struct_fields__
_row_fields = attrgetter(*ROW_COLUMNS)
_request_fields = attrgetter(*REQUEST_COLUMNS)
_KIND: Final = ROW_COLUMNS.index("kind")
_ESTIMATED: Final = ROW_COLUMNS.index("estimated")
_ROW_TAGS: Final = ROW_COLUMNS.index("tags")
_SCHEMA_RESULT: Final = ROW_COLUMNS.index("schema_result")
_EVIDENCE: Final = ROW_COLUMNS.index("evidence")
_STREAM: Final = REQUEST_COLUMNS.index("stream")
_REQUEST_TAGS: Final = REQUEST_COLUMNS.index("tags")
_SCHEMA_ASKED: Final = REQUEST_COLUMNS.index("schema_asked")
_FEATURES: Final = REQUEST_COLUMNS.index("features")
_row_json = msgspec.json.Decoder(LedgerRow)


def row_values(row: LedgerRow) -> list[Any]:
    """One value per column of `ledger_rows`, in the order of ROW_COLUMNS. Words of enums become plain text."""
    values = [_text(value) if isinstance(value, str) else value for value in _row_fields(row)]
    values[_ROW_TAGS] = tags_text(row.tags)
    return values


def row_from(values: Sequence[Any]) -> LedgerRow:
    """The row that `row_values` wrote."""
    fields = list(values)
    fields[_KIND] = RowKind(fields[_KIND])
    fields[_ESTIMATED] = bool(fields[_ESTIMATED])
    fields[_ROW_TAGS] = tags_from(fields[_ROW_TAGS])
    if fields[_SCHEMA_RESULT] is not None:
        fields[_SCHEMA_RESULT] = SchemaResult(fields[_SCHEMA_RESULT])
    fields[_EVIDENCE] = Evidence(fields[_EVIDENCE])
    return LedgerRow(*fields)


def request_values(request: RequestRow) -> list[Any]:
    """One value per column of `requests`, in the order of REQUEST_COLUMNS."""
    values = [_text(value) if isinstance(value, str) else value for value in _request_fields(request)]
    values[_REQUEST_TAGS] = tags_text(request.tags)
    values[_FEATURES] = tags_text(request.features)
    return values


def request_from(values: Sequence[Any]) -> RequestRow:
    """The summary that `request_values` wrote."""
    fields = list(values)
    fields[_STREAM] = bool(fields[_STREAM])
    fields[_REQUEST_TAGS] = tags_from(fields[_REQUEST_TAGS])
    fields[_SCHEMA_ASKED] = bool(fields[_SCHEMA_ASKED])
    fields[_FEATURES] = tags_from(fields[_FEATURES])
    return RequestRow(*fields)


def _text(value: str) -> str:
    """Plain text that UTF-8 can hold: half a surrogate pair, which JSON lets a client send, becomes a question mark."""
    plain = str(value)
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode()


def tags_text(tags: tuple[str, ...]) -> str:
    """Tags or features as a JSON array; the empty one is written without an encoder, since most rows have none."""
    return msgspec.json.encode(tags).decode() if tags else "[]"


def tags_from(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def row_to_json(row: LedgerRow) -> str:
    """A row that may be written later (`OpenHold.on_expiry`), as text."""
    return msgspec.json.encode(row).decode()


def row_from_json(text: str) -> LedgerRow:
    return _row_json.decode(text)
