"""Rows of the house that are posted without a hold, as the words that `lua/post.lua` reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pricing.budgets.caps import Scope, ScopeKind
from pricing.budgets.settlement import HOUSE_ACCOUNTS
from pricing.budgets.windows import bucket_of
from pricing.ledger.entries import value_json
from pricing.ledger.rows import LedgerRow, RowKind
from pricing.redis.answers import check_amount
from pricing.redis.connection import Word

_CONTAINER_KINDS: Final = (RowKind.BOOT, RowKind.IDLE)


def house_words(rows: Iterable[LedgerRow], pool_scopes: bool) -> tuple[list[Scope], list[Word]]:
    """The scopes that boot and idle time among the rows count in, if `pool_scopes`, and five words a row.

    Raises ValueError for a tenant's row or time of a negative cost, StoreUnavailable for more than scripts can count.
    """
    scopes, words = list[Scope](), list[Word]()
    for row in rows:
        if row.account not in HOUSE_ACCOUNTS:
            raise ValueError(f"row {row.row_id}: account {row.account} is not the house's; settle a hold instead")
        amount_nusd = row.amount_nusd if pool_scopes and row.kind in _CONTAINER_KINDS else 0
        if amount_nusd < 0:
            raise ValueError(f"row {row.row_id}: {row.kind} time costs {amount_nusd}; it costs 0 or more")
        check_amount(f"row {row.row_id}", amount_nusd)
        scopes += [Scope(ScopeKind.POOL, row.pool), Scope(ScopeKind.ENDPOINT, row.pool)] if amount_nusd else []
        words += [row.row_id, value_json(row), bucket_of(row.at_us), amount_nusd, row.pool]
    return scopes, words
