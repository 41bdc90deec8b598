"""The official client against the simulated server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from support.simulated import CAPABLE, SPEC, Running, simulated

ASK = [{"role": "user", "content": "hello"}]
MODEL = SPEC.served_model_name
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


@contextlib.asynccontextmanager
async def client_of(running: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_an_answer_parses() -> None:
    """A plain answer has its text, its finish reason and a usage that adds up."""
    async with simulated() as server, client_of(server) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


async def test_a_stream_parses_and_says_the_same() -> None:
    """Streamed or not, the same request gets the same text, and usage comes in the last chunk only."""
    async with simulated() as server, client_of(server) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=30)
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=30, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 30


async def test_completions_parse_streamed_and_not() -> None:
    """The older endpoint answers too, with one choice for each prompt and n."""
    async with simulated() as server, client_of(server) as client:
        whole = await client.completions.create(model=MODEL, prompt=["one", "two"], n=2, max_tokens=5)
        stream = await client.completions.create(model=MODEL, prompt="one", max_tokens=5, stream=True, logprobs=1)
        parts = [chunk.choices[0] async for chunk in stream]
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert whole.choices[0].text == "".join(part.text for part in parts)
    assert whole.choices[1].text != whole.choices[0].text
    assert parts[0].logprobs


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_with_arguments_of_its_schema(streamed: bool) -> None:
    """A pool with a tool parser answers `auto` with a call whose arguments are JSON of the asked form."""
    async with simulated(CAPABLE) as server, client_of(server) as client:
        if streamed:
            async with client.chat.completions.stream(model=MODEL, messages=ASK, tools=[TOOL]) as stream:
                answer = await stream.get_final_completion()
        else:
            answer = await client.chat.completions.create(model=MODEL, messages=ASK, tools=[TOOL])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    function = choice.message.tool_calls[0].function
    assert function.name == "look_up"
    assert set(json.loads(function.arguments)) == {"city", "days"}


async def test_a_tool_s_result_is_answered_in_words() -> None:
    """After the tool has spoken the model does, so that agent loops end."""
    called = {"role": "assistant", "content": None, "tool_calls": []}
    result = {"role": "tool", "tool_call_id": "x", "content": "sunny"}
    async with simulated(CAPABLE) as server, client_of(server) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=[*ASK, called, result], tools=[TOOL])
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


async def test_logprobs_cover_every_token() -> None:
    """Chat logprobs have one entry for each token with the alternatives asked for."""
    async with simulated() as server, client_of(server) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=4, logprobs=True, top_logprobs=2
        )
    assert answer.choices[0].logprobs
    entries = answer.choices[0].logprobs.content or []
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content
    assert [len(entry.top_logprobs) for entry in entries] == [2] * 4


async def test_an_image_counts_by_its_size() -> None:
    """A vision pool reads a PNG's size from its header: 320 × 320 pixels are 100 patches of 32."""
    header = "iVBORw0KGgoAAAANSUhEUgAAAUAAAAFA"  # the first 24 bytes of a PNG of 320 × 320
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{header}"}}
    with_image = [{"role": "user", "content": [{"type": "text", "text": "hello"}, image]}]
    async with simulated(CAPABLE) as server, client_of(server) as client:
        plain = await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1)
        seen = await client.chat.completions.create(model=MODEL, messages=with_image, max_tokens=1)
    assert plain.usage
    assert seen.usage
    assert seen.usage.prompt_tokens - plain.usage.prompt_tokens == 100


async def test_refusals_are_the_client_s_own_errors() -> None:
    """A sleeping pool is a 503 for the client, an unknown model a 404, a full context a 400."""
    async with simulated(awake=False) as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as asleep:
            await client.chat.completions.create(model=MODEL, messages=ASK)
        await server.until_ready()
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nope", messages=ASK)
        with pytest.raises(openai.BadRequestError) as overflow:
            await client.completions.create(model=MODEL, prompt=[5] * 600)
    assert asleep.value.status_code == 503
    assert overflow.value.param == "input_tokens"
