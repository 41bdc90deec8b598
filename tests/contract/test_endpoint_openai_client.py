"""The official client, unchanged, against a whole endpoint on simulated pools."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from pricing.money import usd_number
from support.endpoint import ASK, KEYS, Endpoint, before_simulated, policy

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAUAAAAFA"  # the first 24 bytes of a PNG of 320 × 320


def cost_of(usage: Any) -> float:
    """`usage.cost`, which the client keeps although its types do not know it."""
    cost: float = usage.model_extra["cost"]
    return cost


async def ledger_usd(endpoint: Endpoint) -> float:
    await endpoint.settled()
    return usd_number(endpoint.charged_nusd())


async def test_a_chat_answer_parses_and_says_its_cost(tmp_path: Path) -> None:
    """The answer has text, a finish reason, usage, and the cost that the ledger has."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        answer = await client.chat.completions.create(model="chat", messages=ASK, max_tokens=12)
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12
        assert cost_of(answer.usage) == await ledger_usd(endpoint) > 0


async def test_a_stream_parses_and_says_its_cost_in_the_last_chunk(tmp_path: Path) -> None:
    """With `include_usage`, one chunk has usage, its last one, and the cost is the ledger's."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        stream = await client.chat.completions.create(
            model="chat", messages=ASK, max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert [chunk.usage is not None for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
        assert cost_of(chunks[-1].usage) == await ledger_usd(endpoint) > 0


async def test_a_stream_without_usage_asked_shows_none(tmp_path: Path) -> None:
    """What routing asks of the engine, usage in each chunk, does not reach a client that did not ask for it."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        stream = await client.chat.completions.create(model="chat", messages=ASK, max_tokens=12, stream=True)
        chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_the_older_endpoint_works_too(tmp_path: Path) -> None:
    """Completions, streamed and not, with several prompts and answers."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        whole = await client.completions.create(model="chat", prompt=["one", "two"], n=2, max_tokens=5)
        stream = await client.completions.create(model="chat", prompt="one", max_tokens=5, stream=True)
        text = "".join([chunk.choices[0].text async for chunk in stream])
        ids = await client.completions.create(model="chat", prompt=[1, 2, 3], max_tokens=2)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert whole.usage is not None
    assert cost_of(whole.usage) > 0
    assert text == whole.choices[0].text
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_are_called(tmp_path: Path, streamed: bool) -> None:
    """A tool call comes through, whole or in pieces."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        asked: dict[str, Any] = {"model": "chat", "messages": ASK, "tools": [TOOL]}
        if streamed:
            async with client.chat.completions.stream(**asked) as stream:
                choice: Any = (await stream.get_final_completion()).choices[0]
        else:
            choice = (await client.chat.completions.create(**asked)).choices[0]
    assert choice.finish_reason == "tool_calls"
    function = choice.message.tool_calls[0].function
    assert function.name == "look_up"
    assert set(json.loads(function.arguments)) == {"city", "days"}


async def test_a_schema_is_kept(tmp_path: Path) -> None:
    """With a JSON schema the answer is JSON that fits it."""
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        answer = await client.chat.completions.create(model="chat", messages=ASK, response_format=wanted)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"city", "days"}


async def test_logprobs_come_through(tmp_path: Path) -> None:
    """Log probabilities reach the client, one entry a token."""
    async with before_simulated(tmp_path, awake=("mid",)) as endpoint, endpoint.client() as client:
        answer = await client.chat.completions.create(
            model="chat", messages=ASK, max_tokens=4, logprobs=True, top_logprobs=2
        )
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content or []) == 4


async def test_an_image_goes_to_a_pool_that_sees(tmp_path: Path) -> None:
    """A request with an image is not served by the cheaper pool that only reads; the image counts by its size."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "what is this"}, image]}]
    async with before_simulated(tmp_path, awake=("small", "mid")) as endpoint, endpoint.client() as client:
        answer = await client.chat.completions.create(model="chat:economy", messages=messages, max_tokens=4)
        assert (await endpoint.request()).pool == "mid"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 100


def test_the_client_that_waits_works_as_well(tmp_path: Path) -> None:
    """The synchronous client, streamed and not, from a thread of its own."""

    def talk(url: str) -> tuple[str | None, str]:
        with OpenAI(base_url=f"{url}/v1", api_key=KEYS["acme"]) as client:
            whole = client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=6)
            stream = client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=6, stream=True)
            return whole.choices[0].message.content, "".join(c.choices[0].delta.content or "" for c in stream)

    async def run() -> tuple[str | None, str]:
        async with before_simulated(tmp_path, awake=("small",)) as endpoint:
            return await asyncio.to_thread(talk, endpoint.url)

    whole, streamed = asyncio.run(run())
    assert whole == streamed


async def test_models_lists_what_resolves(tmp_path: Path) -> None:
    """Classes, tiers, aliases and pools are models, one by one too; every one that is listed resolves."""
    async with before_simulated(tmp_path) as endpoint, endpoint.client() as client:
        names = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("chat:premium")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("chat:gold")
    assert {"chat", "chat:economy", "gpt-4o-mini", "small"} <= set(names)
    assert one.id == "chat:premium"


async def test_errors_are_the_client_s_own_classes(tmp_path: Path) -> None:
    """Each refusal becomes the exception that users of the client know, with its code."""
    async with before_simulated(tmp_path) as endpoint:
        async with endpoint.client("sk-nobody") as stranger:
            with pytest.raises(openai.AuthenticationError) as unknown_key:
                await stranger.chat.completions.create(model="chat", messages=ASK)
        async with endpoint.client() as client:
            with pytest.raises(openai.NotFoundError) as unknown_model:
                await client.chat.completions.create(model="chatt", messages=ASK)
            with pytest.raises(openai.BadRequestError) as too_long:
                await client.chat.completions.create(model="chat", messages=ASK, max_tokens=100_000)
            with pytest.raises(openai.BadRequestError) as pictures:
                await client.chat.completions.create(model="pictures", messages=ASK)
    assert unknown_key.value.code == "invalid_api_key"
    assert unknown_model.value.code == "model_not_found"
    assert "chat" in unknown_model.value.message
    assert too_long.value.code == "context_length_exceeded"
    assert pictures.value.code == "feature_not_supported"


async def test_a_tenant_without_money_is_told_once(tmp_path: Path) -> None:
    """A budget that is spent is a RateLimitError of type insufficient_quota, which the client does not repeat."""
    caps = [{"name": "day", "amount_usd": "0.000000001", "window": "24h", "scope": "tenant:acme"}]
    async with before_simulated(tmp_path, policy(caps=caps), awake=("mid",)) as endpoint:
        async with endpoint.client(max_retries=3) as client:
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model="chat", messages=ASK)
        [only] = await endpoint.requests(1)
    assert (refused.value.code, refused.value.type) == ("budget_exceeded", "insufficient_quota")
    assert (only.outcome, only.status, only.attempts) == ("refused", 429, 0)


async def test_a_failed_chain_is_not_bought_again(tmp_path: Path) -> None:
    """When every pool failed the client raises at once: a repeat would pay for the whole chain again."""
    async with before_simulated(tmp_path, awake=("mid", "other", "big")) as endpoint:
        for pool in ("mid", "other", "big"):
            await endpoint.fail(pool, "refuse", count=9)
        async with endpoint.client(max_retries=3) as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await client.chat.completions.create(model="chat", messages=ASK)
        [only] = await endpoint.requests(1)
    assert failed.value.status_code == 502
    assert failed.value.code == "chain_failed"
    assert only.attempts == 4  # each pool once, and one of them again: the policy's max_attempts
    body: Any = failed.value.body
    assert [attempt["failure"] for attempt in body["metadata"]["attempts"]] == ["unavailable"] * 4
