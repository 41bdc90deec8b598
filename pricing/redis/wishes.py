"""What a replica asks of a hold, as the words that `lua/wishes.lua` reads; no amount that a script must not see."""

from __future__ import annotations

from pricing.budgets.settlement import bare_row
from pricing.budgets.store import OpenHold, Settlement
from pricing.clock import US_PER_S
from pricing.ledger.entries import rows_json, value_json
from pricing.redis.answers import check_amount
from pricing.redis.connection import Word
from pricing.redis.packing import PackedCaps


def wish_words(wish: OpenHold, packed: PackedCaps, replica: str, backlog_bytes: int) -> tuple[Word, ...]:
    """A hold to open. Raises ValueError and StoreUnavailable."""
    if wish.amount_nusd < 0 or wish.lease_s <= 0:
        raise ValueError(f"hold {wish.hold_id}: needs an amount of 0 or more and a lease above 0 seconds")
    check_amount(f"hold {wish.hold_id}", wish.amount_nusd)
    row = wish.on_expiry or bare_row(wish.hold_id, wish.request_id, packed.scopes, wish.amount_nusd, 0)
    meter = wish.meter
    return (
        packed.packed,
        replica,
        wish.hold_id,
        wish.amount_nusd,
        round(wish.lease_s * US_PER_S),
        b"" if wish.anchor_us is None else wish.anchor_us,
        wish.tokens,
        value_json(row),
        *((b"", 0, 0) if meter is None else (meter.pool, meter.weight, meter.kv_tokens)),
        backlog_bytes,
        int(wish.granted),
    )


def settlement_words(
    settlement: Settlement, packed: PackedCaps, replica: str, token: str, how: str
) -> tuple[Word, ...]:
    """A hold to end; `how` is settled or released. Raises ValueError and StoreUnavailable."""
    hold_id, amount_nusd = settlement.hold_id, settlement.amount_nusd
    if amount_nusd < 0:
        raise ValueError(f"hold {hold_id}: {amount_nusd} nano-dollars do not fit it; a settlement is 0 or more")
    check_amount(f"hold {hold_id}", amount_nusd)
    return (
        packed.packed,
        replica,
        hold_id,
        amount_nusd,
        int(settlement.may_exceed_hold),
        settlement.more_tokens,
        token,
        rows_json(settlement.rows) if settlement.rows else b"",
        b"" if settlement.request is None else value_json(settlement.request),
        how,
    )
