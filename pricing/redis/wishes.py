"""What a replica asks of a hold, as the words that `lua/wishes.lua` reads; no amount that a script must not see.

Few words, since each costs the client as much as all numbers of one msgpack array; the rows, which scripts pass on
unread, are words of their own. Words come in parts, as the protocol has them, so that they are copied once, into their
command. Amounts go as doubles, which is what they are in scripts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pricing.budgets.caps import LARGEST_NUSD
from pricing.budgets.settlement import bare_row
from pricing.budgets.store import OpenHold, Settlement
from pricing.clock import US_PER_S
from pricing.ledger.entries import rows_json, value_json
from pricing.redis.answers import uncountable
from pricing.redis.packing import PackedCaps

WISH_WORDS: Final = 3
SETTLEMENT_WORDS: Final = 4
_NO_METER: Final = ("", 0, 0)
_encode: Final = msgspec.msgpack.Encoder().encode


def wish_words(
    wish: OpenHold, packed: PackedCaps, replica: str, backlog_bytes: int, installation: str | None
) -> tuple[bytes, ...]:
    """The parts of `WISH_WORDS` words: a hold to open, in a Redis of that installation, where it is known.

    Raises ValueError and StoreUnavailable.
    """
    hold_id, amount_nusd, meter = wish.hold_id, wish.amount_nusd, wish.meter
    if amount_nusd < 0 or wish.lease_s <= 0:
        raise ValueError(f"hold {hold_id}: needs an amount of 0 or more and a lease above 0 seconds")
    if amount_nusd > LARGEST_NUSD:
        raise uncountable(f"hold {hold_id}", amount_nusd)
    row = wish.on_expiry or bare_row(hold_id, wish.request_id, packed.scopes, amount_nusd, 0)
    asked = (
        replica,
        hold_id,
        float(amount_nusd),
        float(round(wish.lease_s * US_PER_S)),
        False if wish.anchor_us is None else float(wish.anchor_us),
        float(wish.tokens),
        *(_NO_METER if meter is None else (meter.pool, float(meter.weight), float(meter.kv_tokens))),
        float(backlog_bytes),
        wish.granted,
        installation or "",
    )
    terms, expiry = _encode(asked), value_json(row)
    return packed.word, b"$%d\r\n" % len(terms), terms, b"\r\n$%d\r\n" % len(expiry), expiry, b"\r\n"


def settlement_words(
    settlement: Settlement, packed: PackedCaps, replica: str, token: str, how: str
) -> tuple[bytes, ...]:
    """The parts of `SETTLEMENT_WORDS` words: a hold to end; `how` is settled or released.

    Raises ValueError and StoreUnavailable.
    """
    hold_id, amount_nusd = settlement.hold_id, settlement.amount_nusd
    if amount_nusd < 0:
        raise ValueError(f"hold {hold_id}: {amount_nusd} nano-dollars do not fit it; a settlement is 0 or more")
    if amount_nusd > LARGEST_NUSD:
        raise uncountable(f"hold {hold_id}", amount_nusd)
    asked = (
        replica,
        hold_id,
        float(amount_nusd),
        settlement.may_exceed_hold,
        float(settlement.more_tokens),
        token,
        how,
    )
    rows = rows_json(settlement.rows) if settlement.rows else b""
    request = b"" if settlement.request is None else value_json(settlement.request)
    terms = _encode(asked)
    begin = (packed.word, b"$%d\r\n" % len(terms), terms, b"\r\n$%d\r\n" % len(rows), rows)
    return *begin, b"\r\n$%d\r\n" % len(request), request, b"\r\n"
