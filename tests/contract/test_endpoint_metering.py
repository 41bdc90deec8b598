"""How requests share a container, and what their amounts rest on, end to end."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.read import recent_rows
from pricing.ledger.rows import Evidence, LedgerRow, RowKind
from pricing.prices.book import SHIPPED_FOLDER as BOOKS
from support.endpoint import before_scripts, before_simulated, one_pool
from support.scripted_server import Exchange

ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1},
}
LONG: dict[str, Any] = {"max_tokens": 800, "sim_output_tokens": 800}


async def answering(exchange: Exchange) -> None:
    await exchange.answer("200 OK", json.dumps(ANSWER).encode())


def charges(rows: list[LedgerRow]) -> list[int]:
    return [row.metered_nusd for row in sorted(rows, key=lambda row: row.prompt_tokens or 0) if row.kind == "attempt"]


@pytest.mark.parametrize(("weight", "least", "most"), [("request", 0.5, 2.0), ("tokens", 2.5, 50.0)])
async def test_requests_share_a_container_as_the_policy_says(
    tmp_path: Path, weight: str, least: float, most: float
) -> None:
    """Two answers of the same length at once: alike by request; by tokens the long prompt pays far more."""
    async with before_simulated(tmp_path, one_pool(defaults={"meter_weight": weight}), awake=("small",)) as endpoint:
        prompts = [[{"role": "user", "content": text}] for text in ("hello", "word " * 2_400)]
        await asyncio.gather(*(endpoint.chat(messages=messages, **LONG) for messages in prompts))
        short_nusd, long_nusd = charges(endpoint.rows())
    assert least < long_nusd / short_nusd < most


async def test_what_a_platform_lists_is_observed(tmp_path: Path) -> None:
    """The request on a container that the list shows, its boot, counted once, and the idle time after."""
    async with before_simulated(tmp_path, one_pool(), house_flush_s=1.0, awake=("small",)) as endpoint:
        await endpoint.chat(**LONG)
        await endpoint.service.clock.sleep(3)
        rows = recent_rows(endpoint.ledger, 1_000)
    assert {row.kind for row in rows} >= {RowKind.ATTEMPT, RowKind.BOOT, RowKind.IDLE}
    assert {row.evidence for row in rows} == {Evidence.OBSERVED}
    assert sum(row.boots for row in rows) == 1


def own_book(folder: Path, **changed: str) -> dict[str, Any]:
    """A policy of one pool, at Modal's prices with other terms of billing."""
    text = (BOOKS / "modal-2026-10.yaml").read_text(encoding="utf-8")
    for key, value in {"id": "ours", "series": "ours", **changed}.items():
        text, count = re.subn(rf"(?m)^{key}: \S+", f"{key}: {value}", text)
        assert count == 1
    book = folder / "ours-book.yaml"
    book.write_text(text, encoding="utf-8")
    return {**one_pool(), "price_book": "ours", "price_books": [str(book)]}


async def test_what_the_book_does_not_bill_costs_nothing(tmp_path: Path) -> None:
    """The boot and the idle time after a request are in the ledger with their seconds; the rest is the pool's bill."""
    free = {f"bills_{part}": "false" for part in ("image_pull", "model_init", "idle_tail")}
    files = own_book(tmp_path, **free)
    async with before_simulated(tmp_path, files, house_flush_s=1.0, awake=("small",)) as endpoint:
        await endpoint.chat(**LONG)
        await endpoint.service.clock.sleep(3)
        rows = recent_rows(endpoint.ledger, 1_000)
        bill = endpoint.pools.bill()["small"]
    unpaid = [row for row in rows if row.kind in (RowKind.BOOT, RowKind.IDLE)]
    assert {row.kind for row in unpaid if row.duration_us} == {RowKind.BOOT, RowKind.IDLE}
    assert {row.amount_nusd for row in unpaid} == {0}
    assert 0 < bill["busy_us"] < bill["alive_us"]
    assert sum(row.amount_nusd for row in rows) == pytest.approx(bill["billed_nusd"], rel=0.2)


async def test_a_life_is_billed_in_the_book_s_steps(tmp_path: Path) -> None:
    """Of an hour: a container that ends before is paid for to the hour's end."""
    files = own_book(tmp_path, min_increment_s="3600")
    async with before_simulated(tmp_path, files, house_flush_s=1.0, awake=("small",)) as endpoint:
        clock = endpoint.service.clock
        await clock.sleep(3)
        endpoint.pools.pools["small"].take_down(clock.wall_us())
        await clock.sleep(6)
        rows = recent_rows(endpoint.ledger, 1_000)
        alive_us = endpoint.pools.bill()["small"]["alive_us"]
    assert sum(row.duration_us for row in rows) == 3_600_000_000
    adjusted_us = max(row.duration_us for row in rows if row.kind is RowKind.ADJUSTMENT)
    assert adjusted_us == pytest.approx(3_600_000_000 - alive_us, rel=0.01)


async def test_what_nobody_lists_is_modelled(tmp_path: Path) -> None:
    """A plain server's containers are what the files say."""
    async with before_scripts(tmp_path, {"small": answering}, one_pool()) as endpoint:
        await endpoint.chat()
        [row] = endpoint.rows()
    assert (row.outcome, row.evidence) == ("answered", Evidence.MODELLED)
