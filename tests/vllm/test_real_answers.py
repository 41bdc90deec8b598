"""Answers of a real vLLM through the endpoint, by the official client and byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from pricing.money import usd_number
from support.before_vllm import before_vllm
from support.endpoint import ASK, CHAT, COMPLETIONS, Endpoint, events
from support.real_vllm import SERVED, RealVllm

GREEDY: dict[str, Any] = {"model": "chat", "temperature": 0}
TWO: dict[str, Any] = {"n": 2, "temperature": 0.5, "seed": 1, "max_tokens": 5}  # vLLM allows no second greedy answer


async def directly(endpoint: Endpoint, engine: RealVllm, path: str, **body: Any) -> bytes:
    """The engine's own answer to the same request."""
    async with endpoint.session.post(engine.url + path, json={**body, "model": SERVED}) as response:
        return await response.read()


def lasting(value: Any) -> Any:
    """An answer or a chunk without what is different each time, and without fields that are null.

    `system_fingerprint` comes in the usage chunk where usage is asked for, as routing does, and in the last one else.
    """
    if isinstance(value, list):
        return [lasting(one) for one in value]
    if not isinstance(value, dict):
        return value
    momentary = ("id", "created", "system_fingerprint")
    return {name: lasting(inner) for name, inner in value.items() if inner is not None and name not in momentary}


def said(stream: bytes) -> dict[int, Any]:
    """What each choice of a stream adds up to: a loaded server may put several tokens into one chunk."""
    found: dict[int, Any] = {}
    for event in events(stream)[:-1]:
        event = lasting(event)
        [choice] = event.pop("choices")
        assert set(event) == {"object", "model"}
        whole = found.setdefault(choice.pop("index"), {"text": "", "logprobs": []})
        delta = choice.pop("delta", {})
        whole["text"] += delta.pop("content", "") + choice.pop("text", "")
        whole["logprobs"].append(choice.pop("logprobs", None))
        whole.update(choice, **delta)
    for whole in found.values():
        whole["logprobs"] = _joined(whole["logprobs"])
    return found


def _joined(parts: list[Any]) -> dict[str, list[Any]]:
    """The lists that log probabilities come in, each as one; of completions without where a token's text begins."""
    names = ("content", "tokens", "token_logprobs", "top_logprobs")
    return {name: [entry for part in parts if part for entry in part.get(name, ())] for name in names}


async def test_an_answer_is_the_engine_s_with_its_cost(tmp_path: Path, short: RealVllm, long: RealVllm) -> None:
    """Every field that the engine sent arrives, and `usage.cost` is what the ledger charged."""
    body = {**GREEDY, "messages": ASK, "max_tokens": 12}
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint:
        reply = await endpoint.ask("POST", CHAT, json=body)
        await endpoint.settled()
        charged = usd_number(endpoint.charged_nusd())
        own = json.loads(await directly(endpoint, short, CHAT, **body))
    got = reply.json
    assert got["usage"].pop("cost") == charged > 0
    assert lasting(got) == lasting(own)
    assert reply.headers["x-sluice-pool"] == "short"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("more", [{}, TWO, {"logprobs": 2}, {"stop": ["e"]}], ids=str)
async def test_a_stream_is_the_engine_s_chunk_by_chunk(
    tmp_path: Path, short: RealVllm, path: str, more: dict[str, Any]
) -> None:
    """Chat and completions, several choices, log probabilities, stop texts: what routing asks of the engine beyond
    what the client did (usage in each chunk, token ids) leaves no trace.
    """
    if path == CHAT:
        given: dict[str, Any] = {"messages": ASK}
        more = {"logprobs": True, "top_logprobs": 2} if "logprobs" in more else more
    else:
        given = {"prompt": "import os"}
    body = {**GREEDY, "max_tokens": 20, "stream": True, **given, **more}
    async with before_vllm(tmp_path, {"short": short}) as endpoint:
        reply = await endpoint.ask("POST", path, json=body)
        own = await directly(endpoint, short, path, **body)
    assert said(reply.body) == said(own)
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_the_official_client_reads_answers_and_streams(tmp_path: Path, short: RealVllm, long: RealVllm) -> None:
    """Chat and completions say the same streamed and not, and the last chunk has the cost where usage is asked for."""
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint, endpoint.client() as client:
        whole = await client.chat.completions.create(**GREEDY, messages=ASK, max_tokens=30)
        stream = await client.chat.completions.create(
            **GREEDY, messages=ASK, max_tokens=30, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        older = await client.completions.create(model="chat", prompt=["import", "def f"], **TWO)
        by_ids = await client.completions.create(**GREEDY, prompt=[1, 2, 3], max_tokens=2)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage is not None for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    last: Any = chunks[-1].usage
    assert last.model_extra["cost"] > 0
    assert whole.usage is not None
    assert (last.prompt_tokens, last.completion_tokens) == (whole.usage.prompt_tokens, 30)
    assert [choice.index for choice in older.choices] == [0, 1, 2, 3]
    assert by_ids.usage is not None
    assert by_ids.usage.prompt_tokens == 3


async def test_log_probabilities_come_through(tmp_path: Path, short: RealVllm) -> None:
    """One entry a token, with as many alternatives as were asked for."""
    async with before_vllm(tmp_path, {"short": short}) as endpoint, endpoint.client() as client:
        answer = await client.chat.completions.create(
            **GREEDY, messages=ASK, max_tokens=4, logprobs=True, top_logprobs=3
        )
    assert answer.choices[0].logprobs is not None
    entries = answer.choices[0].logprobs.content or []
    assert [len(entry.top_logprobs) for entry in entries] == [3] * 4


async def test_what_the_engine_refuses_is_passed_on_as_it_is(tmp_path: Path, short: RealVllm, long: RealVllm) -> None:
    """A value that is wrong wherever it is sent is the client's error; its text is the engine's."""
    async with before_vllm(tmp_path, {"short": short, "long": long}) as endpoint, endpoint.client() as client:
        with pytest.raises(openai.BadRequestError, match="temperature must be non-negative") as refused:
            await client.chat.completions.create(model="chat", messages=ASK, temperature=-1)
        request = await endpoint.request()
    assert refused.value.status_code == 400
    assert (request.attempts, request.status) == (1, 400)


async def test_a_feature_that_the_row_only_claims_is_switched_off(tmp_path: Path, short: RealVllm) -> None:
    """An engine started without a tool parser says so once; the second request with tools is not sent there at all."""
    tool: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    async with before_vllm(tmp_path, {"short": short}) as endpoint:
        first = await endpoint.chat(tools=[tool])
        second = await endpoint.chat(tools=[tool])
        plain = await endpoint.chat(max_tokens=4)
    assert [one["failure"] for one in first.json["error"]["metadata"]["attempts"]] == ["misconfigured"]
    assert second.headers["x-sluice-attempts"] == "0"
    assert plain.status == 200
