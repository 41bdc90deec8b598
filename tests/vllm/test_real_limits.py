"""What does not fit a real vLLM: too long, too many, cut off; who serves instead, and who pays."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from pricing.ledger.rows import SchemaResult
from support.before_vllm import before_vllm
from support.endpoint import CHAT, COMPLETIONS, KEYS, Endpoint, Reply, events
from support.real_vllm import SERVED, RealVllm

# Words outside of source code: the tiny tokenizer makes a token of about every byte of these, where an endpoint that
# has seen no answer yet expects one in four.
DENSE = "水门控制水流" * 70  # 1,260 bytes, 1,260 tokens
ENGLISH = "the gate lets the water of the upper river into the mill "


def as_sent(body: dict[str, Any]) -> bytes:
    """As clients in other languages write JSON: characters, not escapes."""
    return json.dumps({"model": "chat", **body}, ensure_ascii=False).encode()


def asked(content: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 8, **more}


async def attempts(endpoint: Endpoint) -> list[tuple[str, str, str]]:
    """(pool, outcome, who pays) of each attempt of the newest request."""
    await endpoint.settled()
    newest = endpoint.rows()[-1].request_id
    return [(row.pool, row.outcome, row.account) for row in endpoint.rows() if row.request_id == newest]


async def decisions(endpoint: Endpoint, reply: Reply) -> Any:
    found = await endpoint.ask("GET", f"/v1/decisions/{reply.headers['x-sluice-request-id']}")
    return found.json["decisions"]


# -- context -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_overflow_that_only_the_engine_sees_goes_to_the_longer_pool_and_teaches(
    tmp_path: Path, short: RealVllm, long: RealVllm, streamed: bool
) -> None:
    """The estimate says that it fits, the engine answers 400: the next longer pool serves, the tenant pays for both,
    and after some answers the same prompt is sent there at once.
    """
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        first = await endpoint.ask("POST", CHAT, data=as_sent(asked(DENSE, stream=streamed)))
        moved = await attempts(endpoint)
        for _ in range(4):
            await endpoint.ask("POST", CHAT, data=as_sent(asked(DENSE)))
        later = await endpoint.ask("POST", CHAT, data=as_sent(asked(DENSE)))
    assert first.status == 200
    assert first.headers["x-sluice-attempts"] == "2"
    assert moved == [("short", "context_overflow", "acme"), ("long", "answered", "acme")]
    assert (later.headers["x-sluice-pool"], later.headers["x-sluice-attempts"]) == ("long", "1")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_near_a_limit_the_engine_counts(tmp_path: Path, short: RealVllm, long: RealVllm, path: str) -> None:
    """Where the estimate's range lies across a pool's context, the decision has the engine's own count, and its answer
    then counts the same.
    """
    text = ENGLISH * 55  # 3,135 bytes: 784 tokens, give or take a half
    given = asked(text) if path == CHAT else {"prompt": text, "max_tokens": 8}
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        reply = await endpoint.ask("POST", path, json={"model": "chat", **given})
        [decision] = await decisions(endpoint, reply)
    assert reply.status == 200
    assert decision["prompt_tokens"] == reply.json["usage"]["prompt_tokens"] > short.max_model_len
    assert [(one["pool"], one["reason"]) for one in decision["rejected"]] == [("short", "context")]
    assert (reply.headers["x-sluice-pool"], reply.headers["x-sluice-attempts"]) == ("long", "1")


async def test_room_for_the_answer_counts_although_the_engine_would_cut_it(
    tmp_path: Path, short: RealVllm, long: RealVllm
) -> None:
    """vLLM 0.32 silently shortens an answer that does not fit beside its prompt; the pool that has room for all of it
    is chosen instead.
    """
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        reply = await endpoint.chat(**asked("hello", max_tokens=1018, ignore_eos=True))
    assert reply.headers["x-sluice-pool"] == "long"
    assert reply.json["usage"]["completion_tokens"] == 1018


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_prompt_that_fits_nowhere_is_told_so(
    tmp_path: Path, long: RealVllm, narrow: RealVllm, streamed: bool
) -> None:
    """Seen by the estimate or only by the engine, the client's error is `context_length_exceeded`; a pool with no more
    context is not asked after the engine's 400.
    """
    async with before_vllm(tmp_path, {"long": long, "narrow": narrow}) as endpoint, endpoint.client() as client:
        for text, tried in ((ENGLISH * 400, 0), (DENSE * 4, 1)):
            body = asked(text)
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model="chat", stream=streamed, **body)
            assert refused.value.code == "context_length_exceeded"
            assert refused.value.response.headers["x-sluice-attempts"] == str(tried)


# -- overload ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def occupied(engine: RealVllm) -> AsyncIterator[None]:
    """A server's queue is full while the block runs: eight answers wait for an engine that stands still."""
    body = {"model": SERVED, "prompt": "x", "n": 8, "max_tokens": 200, "ignore_eos": True, "stream": True}
    engine.freeze()
    async with aiohttp.ClientSession() as session, session.post(f"{engine.url}{COMPLETIONS}", json=body):
        await engine.until_server_has(1)
        try:
            yield
        finally:
            engine.thaw()
    await engine.until_engine_has(0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_queue_goes_to_the_next_pool(
    tmp_path: Path, narrow: RealVllm, long: RealVllm, streamed: bool
) -> None:
    """A 503, and streamed the same error inside a 200, are overload: the next pool serves, the house pays for none."""
    async with before_vllm(tmp_path, {"narrow": narrow, "long": long}) as endpoint, occupied(narrow):
        reply = await endpoint.chat(**asked("hello", stream=streamed))
        moved = await attempts(endpoint)
    assert reply.status == 200
    assert b"error" not in reply.body
    assert moved == [("narrow", "overloaded", "__failed__"), ("long", "answered", "acme")]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_queue_without_another_pool_is_a_503_before_any_byte(
    tmp_path: Path, narrow: RealVllm, streamed: bool
) -> None:
    """The error inside a 200 becomes a status that clients understand."""
    async with before_vllm(tmp_path, {"narrow": narrow}, max_attempts=1) as endpoint, occupied(narrow):
        reply = await endpoint.chat(**asked("hello", stream=streamed))
    assert reply.status == 503
    assert [one["failure"] for one in reply.json["error"]["metadata"]["attempts"]] == ["overloaded"]


# -- structured output -------------------------------------------------------------------------------------------------


def wanting(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = {"name": "a", "schema": schema, "strict": True}
    return {**asked("hello", response_format={"type": "json_schema", "json_schema": named}), **more}


FLAG = {
    "type": "object",
    "properties": {"flag": {"type": "boolean"}, "kind": {"enum": ["sluice", "weir"]}},
    "required": ["flag", "kind"],
    "additionalProperties": False,
}
# More tokens than the shorter pool's context has, fewer than the longer one's.
MANY_FLAGS = {"type": "array", "items": {"type": "boolean"}, "minItems": 450, "maxItems": 450}


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_keeps_to_its_schema(tmp_path: Path, short: RealVllm, streamed: bool) -> None:
    """A schema goes up as it came, and the answer is an object that fits it."""
    async with before_vllm(tmp_path, {"short": short}) as endpoint:
        reply = await endpoint.chat(**wanting(FLAG, max_tokens=60, stream=streamed))
        await endpoint.settled()
        [row] = endpoint.rows()
    if streamed:
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events(reply.body)[:-1])
    else:
        text = reply.json["choices"][0]["message"]["content"]
    assert set(json.loads(text)) == {"flag", "kind"}
    assert row.schema_result is SchemaResult.KEPT


async def test_an_object_cut_off_at_the_client_s_own_limit_is_what_it_asked_for(
    tmp_path: Path, short: RealVllm, long: RealVllm
) -> None:
    """Half an object with finish reason `length` and a `max_tokens` of the client's is no failure of the pool."""
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        reply = await endpoint.chat(**wanting(FLAG, max_tokens=3))
        await endpoint.settled()
        [row] = endpoint.rows()
    assert reply.json["choices"][0]["finish_reason"] == "length"
    assert (row.pool, row.outcome, row.schema_result) == ("short", "answered", SchemaResult.CUT)


async def test_an_object_cut_off_by_the_pool_s_context_goes_to_a_higher_tier(
    tmp_path: Path, short: RealVllm, long: RealVllm
) -> None:
    """Without a limit of the client's, half an array with status 200 is bad output, and the higher tier's longer
    context holds all of it.
    """
    body = wanting(MANY_FLAGS)
    del body["max_tokens"]
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        reply = await endpoint.chat(**body)
        moved = await attempts(endpoint)
    assert moved == [("short", "bad_output", "acme"), ("long", "answered", "acme")]
    assert len(json.loads(reply.json["choices"][0]["message"]["content"])) == 450


async def test_a_schema_that_the_engine_cannot_read_is_the_client_s_error(
    tmp_path: Path, short: RealVllm, long: RealVllm
) -> None:
    """The grammar's compiler says what is wrong with it, and no other pool is tried."""
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        reply = await endpoint.chat(**wanting({"type": "no such type"}))
        assert await attempts(endpoint) == [("short", "client_error", "acme")]
    assert reply.status == 400


# -- clients that leave ------------------------------------------------------------------------------------------------

ABORTED_WITHIN_S = 1.0  # the whole answer would take several


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_engine_stops_when_the_client_has_gone(tmp_path: Path, long: RealVllm, streamed: bool) -> None:
    """A client that leaves frees its places at once, and pays for what was generated until then."""
    body = {"model": "chat", **asked("hello", max_tokens=1900, n=8, temperature=1, ignore_eos=True, stream=streamed)}
    async with before_vllm(tmp_path, {"long": long}) as endpoint:
        headers = {"Authorization": f"Bearer {KEYS['acme']}"}
        asking = asyncio.create_task(endpoint.session.post(endpoint.url + CHAT, json=body, headers=headers))
        if streamed:
            response = await asking
            await response.content.readuntil(b"\n\n")
            response.close()
        else:
            await long.until_server_has(1)
            asking.cancel()
        await long.until_engine_has(0, ABORTED_WITHIN_S)
        request = await endpoint.request()
        [row] = endpoint.rows()
    assert (request.outcome, row.outcome, row.account) == ("client_gone", "client_gone", "acme")
    assert row.amount_nusd > 0
    assert (row.completion_tokens is not None) == streamed
