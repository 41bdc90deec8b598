"""What ends a hold, as rows of money: checked when somebody settles it, made up when nobody does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from pricing.budgets.book import Held
from pricing.budgets.caps import Scope, ScopeKind
from pricing.budgets.store import Settlement
from pricing.ledger.rows import House, LedgerRow, RowKind

HOUSE_ACCOUNTS: Final = frozenset(House)


def check_settlement(settlement: Settlement) -> None:
    """The rows that tenants pay must be what the hold's scopes are said to have spent. Raises ValueError."""
    paid_nusd = 0
    for row in settlement.rows:  # a loop: a generator takes twice as long for the one row that most have
        paid_nusd += 0 if row.account in HOUSE_ACCOUNTS else row.amount_nusd
    if paid_nusd != settlement.amount_nusd:
        raise ValueError(
            f"hold {settlement.hold_id}: its rows charge tenants {paid_nusd} nano-dollars, but "
            f"{settlement.amount_nusd} are to be spent; both must be the same money"
        )


def late_row(settlement: Settlement, wall_us: int) -> LedgerRow | None:
    """What is written when a hold is settled after it had expired: amount 0, with the metered figure."""
    attempt = next((row for row in settlement.rows if row.kind is RowKind.ATTEMPT), None)
    if attempt is None:
        return None
    return replace(
        attempt,
        row_id=f"{settlement.hold_id}:{RowKind.LATE}",
        kind=RowKind.LATE,
        at_us=wall_us,
        amount_nusd=0,
        metered_nusd=sum(row.metered_nusd for row in settlement.rows),
    )


def expiry_row(held: Held, wall_us: int) -> LedgerRow:
    """The row of a hold that nobody ended: its full amount, marked as an estimate."""
    scopes = [account.scope for account in held.accounts]
    row = held.on_expiry or bare_row(held.hold_id, held.request_id, scopes, held.amount_nusd, held.anchor_us)
    return replace(row, at_us=wall_us, amount_nusd=held.amount_nusd, metered_nusd=held.amount_nusd, estimated=True)


def bare_row(hold_id: str, request_id: str, scopes: Iterable[Scope], amount_nusd: int, at_us: int) -> LedgerRow:
    """For a hold opened without a row: its scopes name the tenant and the pool; without a tenant the house pays."""
    named = {scope.kind: scope.value for scope in scopes}
    tenant = named.get(ScopeKind.TENANT)
    return LedgerRow(
        row_id=f"{hold_id}:{RowKind.ATTEMPT}",
        at_us=at_us,
        kind=RowKind.ATTEMPT,
        account=tenant or House.FAILED,
        amount_nusd=amount_nusd,
        metered_nusd=amount_nusd,
        pool=named.get(ScopeKind.POOL, ""),
        gpu="",
        model="",
        policy_version="",
        price_books="",
        tenant=tenant,
        key_id=named.get(ScopeKind.KEY),
        request_id=request_id,
        request_class=named.get(ScopeKind.CLASS),
        outcome="expired",
    )
