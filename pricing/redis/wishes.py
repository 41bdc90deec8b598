"""What a replica asks of a hold, as the words that `lua/wishes.lua` reads; no amount that a script must not see.

Few words, since each costs the client as much as all numbers of one msgpack array; the rows, which scripts pass on
unread, are words of their own.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pricing.budgets.settlement import bare_row
from pricing.budgets.store import OpenHold, Settlement
from pricing.clock import US_PER_S
from pricing.ledger.entries import rows_json, value_json
from pricing.redis.answers import check_amount
from pricing.redis.connection import Word
from pricing.redis.packing import PackedCaps, number

_encode: Final = msgspec.msgpack.Encoder().encode


def wish_words(
    wish: OpenHold, packed: PackedCaps, replica: str, backlog_bytes: int | float, installation: str | None
) -> tuple[Word, ...]:
    """A hold to open, in a Redis of that installation, where it is known. `backlog_bytes` is a `number`.

    Raises ValueError and StoreUnavailable.
    """
    hold_id, amount_nusd, meter = wish.hold_id, wish.amount_nusd, wish.meter
    if amount_nusd < 0 or wish.lease_s <= 0:
        raise ValueError(f"hold {hold_id}: needs an amount of 0 or more and a lease above 0 seconds")
    check_amount(f"hold {hold_id}", amount_nusd)
    row = wish.on_expiry or bare_row(hold_id, wish.request_id, packed.scopes, amount_nusd, 0)
    asked = (
        replica,
        hold_id,
        number(amount_nusd),
        number(round(wish.lease_s * US_PER_S)),
        False if wish.anchor_us is None else number(wish.anchor_us),
        number(wish.tokens),
        *(("", 0, 0) if meter is None else (meter.pool, number(meter.weight), number(meter.kv_tokens))),
        backlog_bytes,
        wish.granted,
        installation or "",
    )
    return packed.packed, _encode(asked), value_json(row)


def settlement_words(
    settlement: Settlement, packed: PackedCaps, replica: str, token: str, how: str
) -> tuple[Word, ...]:
    """A hold to end; `how` is settled or released. Raises ValueError and StoreUnavailable."""
    hold_id, amount_nusd = settlement.hold_id, settlement.amount_nusd
    if amount_nusd < 0:
        raise ValueError(f"hold {hold_id}: {amount_nusd} nano-dollars do not fit it; a settlement is 0 or more")
    check_amount(f"hold {hold_id}", amount_nusd)
    asked = (
        replica,
        hold_id,
        number(amount_nusd),
        settlement.may_exceed_hold,
        number(settlement.more_tokens),
        token,
        how,
    )
    rows = rows_json(settlement.rows) if settlement.rows else b""
    request = b"" if settlement.request is None else value_json(settlement.request)
    return packed.packed, _encode(asked), rows, request
