"""A pool that is billed by the token behind the endpoint: what tenants are charged is what its API bills."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.read import recent_rows
from pricing.ledger.rows import RowKind
from support.endpoint import ASK, Endpoint, Policy, events, policy, serving
from support.token_api import MODEL, TokenApi, token_api

INPUT_NUSD, CACHED_NUSD, OUTPUT_NUSD = 150, 75, 600  # a token, at the prices below
BOOK = f"""\
id: api-2026-11
title: An API's prices
provider: example
source: written for a test
as_of: 2026-11-01
effective_from: null
currency: USD
per_million_tokens:
  - {{model: {MODEL}, input_usd: 0.15, cached_input_usd: 0.075, output_usd: 0.6}}
"""
ROW: Policy = {
    "billed_by": "tokens",
    "served_model_name": MODEL,
    "price_book": "api-2026-11",
    "max_model_len": 16384,
    "tokens_per_s": 1000,
}
LONG: list[Any] = [{"role": "user", "content": "one two three four five six seven eight"}]


def files(folder: Path, url: str, **sections: Any) -> Policy:
    """The policy of the other tests with `chat` on the API alone."""
    (folder / "books").mkdir(exist_ok=True)
    (folder / "books" / "api.yaml").write_text(BOOK, encoding="utf-8")
    base = policy()
    return {
        **base,
        "price_books": ["../books/api.yaml"],
        "pools": {**base["pools"], "api": ROW},
        "classes": {"chat": {"ladder": {"premium": ["api"]}}},
        "endpoints": {"api": {"url": url}},
        "aliases": {},
        **sections,
    }


def bill_nusd(api: TokenApi) -> int:
    """What the API itself asks for."""
    return sum(
        (prompt - cached) * INPUT_NUSD + cached * CACHED_NUSD + answer * OUTPUT_NUSD
        for prompt, answer, cached in api.billed
    )


def houses(endpoint: Endpoint) -> list[str]:
    return [row.account for row in recent_rows(endpoint.ledger, 1000) if not row.request_id]


async def test_charges_are_the_bill(tmp_path: Path) -> None:
    """Answers, whole and streamed, cost their tokens at the book's prices, cached ones included; nothing is idle."""
    async with token_api(cached=2) as api, serving(tmp_path, files(tmp_path, api.url), house_flush_s=0.05) as endpoint:
        whole = await endpoint.chat(messages=LONG)
        streamed = await endpoint.chat(messages=LONG, stream=True, stream_options={"include_usage": True})
        expected = 6 * INPUT_NUSD + 2 * CACHED_NUSD + 20 * OUTPUT_NUSD
        assert whole.json["usage"]["cost"] == pytest.approx(expected / 1e9)
        [usage] = [one["usage"] for one in events(streamed.body)[:-1] if not one["choices"]]
        assert usage["cost"] == pytest.approx(expected / 1e9)
        await endpoint.requests(2)
        assert endpoint.charged_nusd() == bill_nusd(api) == 2 * expected
        await asyncio.sleep(0.2)  # longer than rows of the house are collected for
        assert houses(endpoint) == []
        [row, _] = endpoint.rows()
        assert (row.gpu, row.model, row.price_books, row.pool) == ("api", MODEL, "api-2026-11", "api")
        assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (8, 20, False)
    assert houses(endpoint) == []


async def test_cached_tokens_are_in_every_book(tmp_path: Path) -> None:
    """What made a prompt cheaper stands in rows, summaries, usage, reports and decisions; an API that names more cached
    tokens than the prompt has is not believed.
    """
    async with token_api(cached=2) as api, serving(tmp_path, files(tmp_path, api.url)) as endpoint:
        await endpoint.chat(messages=LONG)
        await endpoint.chat(messages=LONG, stream=True)
        api.cached = 99
        reply = await endpoint.chat(messages=LONG)
        await endpoint.requests(3)
        assert sorted(row.cached_prompt_tokens for row in endpoint.rows()) == [2, 2, 8]
        buckets = (await endpoint.ask("GET", "/v1/usage", "ops")).json["data"]
        [result] = [each for bucket in buckets for each in bucket["results"]]
        assert (result["input_tokens"], result["input_cached_tokens"]) == (24, 12)
        total = (await endpoint.ask("GET", "/v1/reports?by=pool&since=24h", "ops")).json["total"]
        assert (total["prompt_tokens"], total["cached_prompt_tokens"]) == (24, 12)
        past = await endpoint.ask("GET", f"/v1/decisions/{reply.headers['x-sluice-request-id']}", "ops")
        assert past.json["cached_prompt_tokens"] == 8


async def test_usage_in_the_last_chunk_of_the_answer_is_priced(tmp_path: Path) -> None:
    """Some APIs send no chunk of usage alone; the cost is written where their usage is."""
    async with token_api(usage_last=True) as api, serving(tmp_path, files(tmp_path, api.url)) as endpoint:
        reply = await endpoint.chat(stream=True, stream_options={"include_usage": True})
        [usage] = [one["usage"] for one in events(reply.body)[:-1] if one.get("usage")]
        assert usage["cost"] == pytest.approx(bill_nusd(api) / 1e9)
        await endpoint.request()
        assert endpoint.charged_nusd() == bill_nusd(api)


async def test_a_refusal_costs_nothing_and_the_next_pool_serves(tmp_path: Path) -> None:
    """An error is not billed by the token: the attempt is a row of 0, and the request goes on."""
    busy = (429, {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"})
    async with token_api(refusals=[busy]) as api, token_api() as other:
        changed = files(tmp_path, api.url)
        changed["pools"]["spare"] = ROW
        changed["classes"] = {"chat": {"objective": "listed", "ladder": {"premium": ["api", "spare"]}}}
        changed["endpoints"]["spare"] = {"url": other.url}
        async with serving(tmp_path, changed) as endpoint:
            reply = await endpoint.chat()
            assert (reply.status, reply.headers["x-sluice-pool"]) == (200, "spare")
            await endpoint.request()
            costs = [(row.pool, row.metered_nusd) for row in endpoint.rows()]
            assert costs == [("api", 0), ("spare", bill_nusd(other))]
            assert api.billed == []


async def test_an_account_without_money_takes_the_pool_out(tmp_path: Path) -> None:
    """`insufficient_quota` is no load that passes: an operator must pay, so the pool is misconfigured."""
    broke = (429, {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": None})
    async with token_api(refusals=[broke]) as api, serving(tmp_path, files(tmp_path, api.url)) as endpoint:
        assert (await endpoint.chat()).status in (502, 503)
        assert endpoint.service.live.state("api").misconfigured
        await endpoint.request()


async def test_a_stream_that_breaks_is_charged_by_what_it_said(tmp_path: Path) -> None:
    """Without usage the tokens are counted in what came, and the row says that they are an estimate."""
    async with token_api(breaks_after=7) as api, serving(tmp_path, files(tmp_path, api.url)) as endpoint:
        reply = await endpoint.chat(stream=True, messages=LONG)
        assert b"stream_broken" in reply.body
        await endpoint.request()
        [row] = [row for row in endpoint.rows() if row.kind is RowKind.ATTEMPT]
        assert (row.estimated, row.account) == (True, "__failed__")
        assert 0 < row.metered_nusd - 7 * OUTPUT_NUSD < 40 * INPUT_NUSD  # and a prompt of about so many tokens


async def test_under_cut_no_settlement_passes_its_hold(tmp_path: Path) -> None:
    """A cap without room ends the stream; the tenant pays what was held, and the caps are never passed."""
    amount_usd = 0.00003
    cap = {"name": "day", "amount_usd": amount_usd, "window": "24h", "scope": "class:chat"}
    async with token_api(answers=400, held_after=100) as api:
        changed = files(tmp_path, api.url, caps=[cap], defaults={"hold_tick_s": 0.05})
        async with serving(tmp_path, changed) as endpoint:
            reply = await endpoint.chat(stream=True, max_tokens=20)
            assert b"budget_exceeded" in reply.body
            await endpoint.request()
            paid = endpoint.charged_nusd()
            assert 0 < paid <= amount_usd * 1e9
            assert sum(row.metered_nusd for row in endpoint.rows()) >= paid


async def test_the_cheaper_of_tokens_and_seconds_serves(tmp_path: Path) -> None:
    """`/v1/route` ranks both kinds by what the provider's bill grows by, and says which is which."""
    async with token_api() as api:
        changed = files(tmp_path, api.url)
        changed["classes"] = {"chat": {"ladder": {"premium": ["api", "small"]}}}
        changed["endpoints"]["small"] = {"url": "http://127.0.0.1:9", "always_on": 1}
        async with serving(tmp_path, changed) as endpoint:
            asked = {"model": "chat", "prompt_tokens": 8, "max_tokens": 20}
            decision = (await endpoint.ask("POST", "/v1/route", json=asked)).json
            assert {one["pool"]: one["billed_by"] for one in decision["candidates"]} == {
                "api": "tokens",
                "small": "seconds",
            }
            one = next(one for one in decision["candidates"] if one["pool"] == "api")
            assert one["expected_bill_usd"] == one["expected_charge_usd"] > 0
            assert (one["expected_boot_usd"], one["wait_s"], one["gpu"]) == (0, 0, "api")
            bills = [one["expected_bill_usd"] for one in decision["candidates"]]
            assert bills == sorted(bills)


async def test_what_only_engines_of_our_own_know_is_not_asked_of_an_api(tmp_path: Path) -> None:
    """The fake refuses unknown stream options, as such APIs do."""
    async with token_api() as api, serving(tmp_path, files(tmp_path, api.url)) as endpoint:
        assert (await endpoint.chat(stream=True, messages=ASK)).status == 200
        [sent] = api.bodies
        assert sent["stream_options"] == {"include_usage": True}
        assert "return_token_ids" not in sent
        await endpoint.request()


async def test_pages_and_reports_know_what_it_is(tmp_path: Path) -> None:
    """Its price is by the million tokens, its report has no idle time, and as a baseline it costs its tokens."""
    async with token_api(cached=2) as api, serving(tmp_path, files(tmp_path, api.url)) as endpoint:
        await endpoint.chat(messages=LONG)
        await endpoint.requests(1)
        pools = (await endpoint.ask("GET", "/v1/pools", "ops")).json["data"]
        [pool] = [one for one in pools if one["pool"] == "api"]
        assert pool["price_usd_per_hour"] is None
        assert pool["price_usd_per_million_tokens"] == {"input": 0.15, "cached_input": 0.075, "output": 0.6}
        found = (await endpoint.ask("GET", "/v1/reports?by=pool&since=24h&baseline=api", "ops")).json
        total = found["total"]
        assert total["total_nusd"] == total["charged_nusd"] == bill_nusd(api)
        assert (total["boot_nusd"], total["idle_nusd"]) == (0, 0)
        assert total["baseline_nusd"] == 8 * INPUT_NUSD + 20 * OUTPUT_NUSD
