"""Entries of the ledger's stream say exactly what went in, and what is none is named."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.ledger.entries import BadEntry, decode, rows_entry, value_json
from pricing.ledger.rows import Evidence, House, LedgerRow, RequestRow, RowKind
from support.money import request, row
from support.values import replace

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.builds(
    LedgerRow, amount_nusd=INT64, metered_nusd=INT64, at_us=INT64, duration_us=INT64, kind=st.sampled_from(RowKind)
)


def fields_of(entry: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(entry[::2], entry[1::2], strict=True))


@given(st.lists(ROWS, max_size=4), st.none() | st.builds(RequestRow, decisions_json=st.binary(max_size=40)))
def test_rows_come_back_as_they_went_in(rows: list[LedgerRow], summary: RequestRow | None) -> None:
    """Any rows with any summary are the same after the stream, every digit and byte included."""
    found = decode(fields_of(rows_entry(rows, summary)))
    assert (list(found.rows), found.request) == (rows, summary)


@given(amount=INT64, metered=INT64, at=INT64)
def test_a_template_is_filled_in(amount: int, metered: int, at: int) -> None:
    """What a script decides replaces the template's fields; all others stay."""
    template = row("a:1", 5)
    [found] = decode(filled(template, amount=amount, metered=metered, at=at, kind="idle", account=House.IDLE)).rows
    assert found == replace(
        template, amount_nusd=amount, metered_nusd=metered, at_us=at, kind=RowKind.IDLE, account="__idle__"
    )


def test_every_field_of_a_template_can_be_filled() -> None:
    """Row id, duration, boots, evidence and the mark of an estimate are taken over where they are given."""
    changes = {"row_id": "x", "duration": 7, "estimated": 1, "boots": 2, "evidence": "observed"}
    [found] = decode(filled(row("a:1", 5), **changes)).rows
    assert (found.row_id, found.duration_us, found.estimated, found.kind) == ("x", 7, True, RowKind.ATTEMPT)
    assert (found.boots, found.evidence) == (2, Evidence.OBSERVED)


def test_text_that_is_no_text_does_not_stop_a_settlement() -> None:
    """Half a surrogate pair, which JSON lets a client send as a model's name, becomes a question mark."""
    odd = replace(request("a"), model_asked="m\ud800", tags=("t\udfff",))
    found = decode(fields_of(rows_entry([row("a:1", 5, tags=("\ud800",))], odd)))
    assert found.request is not None
    assert (found.request.model_asked, found.request.tags, found.rows[0].tags) == ("m?", ("t?",), ("?",))
    assert msgspec.json.decode(value_json(row("a:1", 5, model="\ud800")))["model"] == "?"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "field k is not one of rows, filled"),
        ({b"k": b"other"}, "field k is not one of"),
        ({b"k": b"rows"}, "field rows is missing"),
        ({b"k": b"rows", b"rows": b"[{}]"}, "field rows: Object missing required field"),
        ({b"k": b"rows", b"rows": b"\xff"}, "field rows: "),
        ({b"k": b"rows", b"rows": b"[]", b"request": b"[]"}, "field request: Expected `object`"),
    ],
)
def test_what_is_no_entry_is_named(fields: dict[bytes, bytes], reason: str) -> None:
    """Each thing that makes an entry unreadable has its own sentence."""
    with pytest.raises(BadEntry, match=reason.replace("[", r"\[")):
        decode(fields)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": "1e3"}, "field amount is not an integer of 64 bits"),
        ({"amount": ""}, "field amount is not an integer"),
        ({"metered": str(2**63)}, "field metered is not an integer"),
        ({"at": "9" * 5_000}, "field at is not an integer"),
        ({"at": "nan"}, "field at is not an integer"),
        ({"estimated": "yes"}, "field estimated is not 0 or 1"),
        ({"kind": "gift"}, "field kind is not one of attempt, overrun, late, boot, idle, adjustment; a newer"),
        ({"evidence": "hearsay"}, "field evidence is not one of observed, modelled"),
        ({"boots": "-"}, "field boots is not an integer"),
        ({"row_id": b"\xff"}, "field row_id is not UTF-8"),
    ],
)
def test_what_cannot_be_filled_in_is_named(changes: dict[str, object], reason: str) -> None:
    """A wrong number, flag, kind or text of a script is refused, with the field's name and without its value."""
    with pytest.raises(BadEntry, match=reason):
        decode(filled(row("a:1", 5), **changes))


def filled(template: LedgerRow, **changes: object) -> dict[bytes, bytes]:
    given_fields = {"amount": 1, "metered": 2, "at": 3, **changes}
    texts = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in given_fields.items()}
    return {b"k": b"filled", b"row": value_json(template), **{name.encode(): text for name, text in texts.items()}}
