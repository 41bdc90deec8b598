"""Caps, holds and rows for tests of money, with defaults for what a test does not care about."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from pricing.budgets.caps import Cap, CapTable, Scope, Unlimited, parse_scope, parse_window
from pricing.budgets.store import OpenHold, Settlement
from pricing.ledger.rows import LedgerRow, RequestRow, RowKind
from support.values import replace

UTC = ZoneInfo("UTC")
ACME = parse_scope("tenant:acme")
GLOBEX = parse_scope("tenant:globex")
POOL = parse_scope("pool:l4")
US = 1_000_000


def cap(
    amount: int | Unlimited, window: str = "24h", scope: str = "tenant:acme", name: str = "day", **more: Any
) -> Cap:
    return Cap(name, parse_scope(scope), amount, parse_window(window), **more)


def caps(*table: Cap, zone: ZoneInfo = UTC) -> CapTable:
    return CapTable(table, zone)


def row(hold_id: str, amount: int, account: str = "acme", **more: Any) -> LedgerRow:
    """The attempt row of a hold named `request:attempt`."""
    request_id, _, attempt = hold_id.rpartition(":")
    plain = LedgerRow(
        row_id=f"{hold_id}:{RowKind.ATTEMPT}",
        at_us=0,
        kind=RowKind.ATTEMPT,
        account=account,
        amount_nusd=amount,
        metered_nusd=amount,
        pool="l4",
        gpu="L4",
        model="qwen3-4b",
        policy_version="p1",
        price_books="modal-2026-10",
        tenant=None if account.startswith("__") else account,
        key_id="k1",
        request_id=request_id,
        attempt=int(attempt),
        request_class="chat",
        tier="standard",
        outcome="answered",
        duration_us=2_000_000,
        prompt_tokens=100,
        completion_tokens=20,
    )
    return replace(plain, **more)


def house_row(row_id: str, kind: RowKind, amount: int, at_us: int, pool: str = "l4") -> LedgerRow:
    return replace(
        row("x:1", amount, account=f"__{kind}__"),
        row_id=row_id,
        kind=kind,
        at_us=at_us,
        pool=pool,
        request_id=None,
        attempt=0,
        request_class=None,
        tier=None,
        key_id=None,
        outcome="",
        prompt_tokens=None,
        completion_tokens=None,
    )


def request(request_id: str, tenant: str = "acme", **more: Any) -> RequestRow:
    plain = RequestRow(
        request_id=request_id,
        at_us=0,
        tenant=tenant,
        key_id="k1",
        endpoint="/v1/chat/completions",
        model_asked="chat",
        request_class="chat",
        tier_asked="standard",
        tier_served="standard",
        pool="l4",
        outcome="served",
        status=200,
        error_code=None,
        attempts=1,
        stream=False,
        duration_us=2_000_000,
        prompt_tokens=100,
        completion_tokens=20,
        baseline_nusd=5_000,
        policy_version="p1",
        decisions_json=b'[{"chosen": "l4"}]',
        model="qwen3-4b",
        gpu="L4",
    )
    return replace(plain, **more)


def wish(hold_id: str, amount: int, *scopes: Scope, lease_s: float = 30.0, anchor_us: int | None = None) -> OpenHold:
    """A hold for acme on pool l4, unless scopes are given."""
    chosen = scopes or (ACME, POOL)
    payer = next((scope.value for scope in chosen if scope.kind == "tenant"), "acme")
    request_id = hold_id.rpartition(":")[0]
    return OpenHold(hold_id, request_id, chosen, amount, lease_s, anchor_us, on_expiry=row(hold_id, amount, payer))


def paid(hold_id: str, amount: int, account: str = "acme", **more: Any) -> Settlement:
    """A settlement whose one row says the same amount."""
    return Settlement(hold_id, amount, (row(hold_id, amount, account),), **more)
