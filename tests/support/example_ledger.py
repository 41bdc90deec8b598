"""The ledger of the examples in the docs: a month of two tenants on two pools, with sums that are done by hand.

    l4   shop 300 × $0.01, of which 10 first failed at $0.01 that the house paid; lab 100 × $0.01: busy $4.10
         boot $0.41 (8 boots of 50 s), idle $2.05
    a10  lab 40 × $0.05: busy $2.00; boot $0.10 (2 boots of 40 s), idle $0.50
    t4   nobody: idle $0.05

All on 2 to 4 November 2026; $9.21 in all. The baseline of each answer is twice what it cost, $12.00 in all, which are
five hours of the premium pool at $2.40.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pricing.ledger.policy_history import PolicyVersion, PremiumPool, remember
from pricing.ledger.policy_pools import NotedPool
from pricing.ledger.rows import Evidence, House, LedgerRow, RequestRow, RowKind
from support.money import house_row, request, row
from support.shared_ledger import fill_file
from support.values import replace

BEGIN: Final = 1_793_613_600 * 10**6  # 2026-11-02 10:00 UTC
HOUR: Final = 3_600 * 10**6
L4, A10, T4 = "qwen3-vl-8b-fp8-l4", "qwen3-vl-8b-fp8-a10", "qwen3-4b-fp16-t4"
L40S: Final = PremiumPool("qwen3-vl-8b-bf16-l40s", "L40S", 1, 2_400_000_000, ("chat",))
_GPUS: Final = {L4: "L4", A10: "A10", T4: "T4"}
_CENT: Final = 10**7
_BOOK: Final = "modal-2026-10"


def _container(pool: str, gpu_nusd_per_h: int) -> NotedPool:
    """Of four cores and 32 GiB, as the shipped pools have them."""
    return NotedPool(
        pool,
        _BOOK,
        "modal",
        "serverless",
        _GPUS[pool],
        1,
        4.0,
        32.0,
        gpu_nusd_per_h=gpu_nusd_per_h,
        cpu_nusd_per_h=189_200_000,
        memory_nusd_per_h=256_000_000,
    )


IN_FORCE: Final = PolicyVersion(
    "p1", _BOOK, BEGIN, "r1", BEGIN, "r1", (), (L40S,),
    (_container(L4, 800_000_000), _container(A10, 1_100_000_000), _container(T4, 590_000_000)),
)  # fmt: skip


def write_example_ledger(path: Path) -> None:
    rows: list[LedgerRow] = []
    requests: list[RequestRow] = []
    for tenant, pool, count, cents in (("shop", L4, 300, 1), ("lab", L4, 100, 1), ("lab", A10, 40, 5)):
        for number in range(count):
            failed = tenant == "shop" and number < 10
            more, ended = _request(f"{tenant}-{_GPUS[pool]}-{number}", tenant, pool, number, cents, failed)
            rows += more
            requests.append(ended)
    fill_file(path, [*rows, *_containers()], requests)
    remember(path, IN_FORCE)


def _request(
    name: str, tenant: str, pool: str, number: int, cents: int, failed: bool
) -> tuple[list[LedgerRow], RequestRow]:
    at_us = BEGIN + number % 3 * 24 * HOUR + number * 10**7
    tags = ("web",) if tenant == "shop" else ("batch", "eu")
    took_us = 2_000_000 + number % 50 * 40_000
    answered = _row(f"{name}:{1 + failed}", cents * _CENT, tenant, pool, at_us, tags)
    answered = replace(answered, ttft_us=400_000, duration_us=took_us)
    rows = [answered]
    if failed:
        lost = _row(f"{name}:1", _CENT, tenant, pool, at_us, tags)
        lost = replace(lost, account=House.FAILED, outcome="out_of_memory", completion_tokens=0)
        rows.insert(0, lost)
    ended = request(name, tenant, at_us=at_us, pool=pool, tags=tags, attempts=1 + failed, duration_us=took_us + 100_000)
    return rows, replace(
        ended,
        key_id=f"{tenant}-key",
        model="qwen3-vl-8b",
        gpu=_GPUS[pool],
        prompt_tokens=1_000,
        completion_tokens=200,
        baseline_nusd=2 * cents * _CENT,
    )


def _row(hold: str, amount: int, tenant: str, pool: str, at_us: int, tags: tuple[str, ...]) -> LedgerRow:
    made = row(hold, amount, tenant, at_us=at_us, pool=pool, gpu=_GPUS[pool], model="qwen3-vl-8b", tags=tags)
    return replace(made, key_id=f"{tenant}-key", prompt_tokens=1_000, completion_tokens=200, evidence=_seen(pool))


def _containers() -> Iterator[LedgerRow]:
    for pool, boots, boot_s, boot_cents, idle_s, idle_cents in (
        (L4, 8, 400, 41, 9_000, 205),
        (A10, 2, 80, 10, 1_600, 50),
        (T4, 0, 0, 0, 300, 5),
    ):
        for kind, cents, seconds in ((RowKind.BOOT, boot_cents, boot_s), (RowKind.IDLE, idle_cents, idle_s)):
            if cents:
                made = house_row(f"{pool}:{kind}", kind, cents * _CENT, BEGIN + HOUR, pool)
                made = replace(made, tenant=None, gpu=_GPUS[pool], model="qwen3-vl-8b", duration_us=seconds * 10**6)
                yield replace(made, evidence=_seen(pool), boots=boots if kind is RowKind.BOOT else 0)


def _seen(pool: str) -> Evidence:
    return Evidence.OBSERVED if pool == L4 else Evidence.MODELLED
