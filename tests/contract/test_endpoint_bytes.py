"""What goes up and what comes down, byte for byte, against servers that are scripted byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.backends import streaming
from support.endpoint import CHAT, COMPLETIONS, Endpoint, Reply, before_scripts, events, one_pool
from support.scripted_server import DONE, ROLE, Exchange, Script, frame, text_frame

NAME = b'"Qwen/Qwen3-4B-Instruct-2507"'
UP = (
    b'{ "model" : "chat",\n "messages":[{"role":"user","content":"h\\u00e9 \\"model\\""}],'
    b'"x":1.50, "seed":12345678901234567890 }'
)
ANSWER = (
    b'{"id": "a-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "\\u00e9\\/"}, '
    b'"finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "new_field": 1.50}'
)
USAGE = frame(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2})


def answering(body: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", body)

    return script


async def sent_up(folder: Path, path: str, body: bytes, script: Script) -> tuple[bytes, Reply]:
    """What the pool received, and what the client got."""
    async with before_scripts(folder, {"small": script}, one_pool()) as endpoint:
        reply = await endpoint.ask("POST", path, data=body)
        return endpoint.upstream["small"].received[0].body, reply


async def relayed(folder: Path, *chunks: bytes, **body: Any) -> bytes:
    """What a client gets of a stream of these chunks."""
    async with before_scripts(folder, {"small": streaming(*chunks)}, one_pool()) as endpoint:
        reply = await endpoint.chat(stream=True, **body)
    assert reply.status == 200
    return reply.body


async def test_a_body_goes_up_as_it_came_but_for_the_model(tmp_path: Path) -> None:
    """White space, escapes, number formats and fields that nobody knows are the client's own."""
    received, reply = await sent_up(tmp_path, CHAT, UP, answering(ANSWER))
    assert received == UP.replace(b'"chat"', NAME, 1)
    assert reply.status == 200


async def test_a_stream_goes_up_with_usage_and_token_ids_asked_and_nothing_else(tmp_path: Path) -> None:
    """Of a streamed request `stream_options` and `return_token_ids` are set too; everything else stays."""
    body = UP.replace(b" }", b', "stream": true, "stream_options": {"include_usage": false} }')
    received, _ = await sent_up(tmp_path, CHAT, body, streaming(ROLE, text_frame("hi", "stop"), USAGE, DONE))
    options = b'{"include_usage":true,"continuous_usage_stats":true}'
    up = body.replace(b'"chat"', NAME, 1).replace(b'{"include_usage": false}', options)
    assert received == up.replace(b"{", b'{"return_token_ids":true,', 1)


async def test_completions_go_up_to_their_own_path(tmp_path: Path) -> None:
    """The older endpoint's requests are not turned into chats."""
    answer = b'{"choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}]}'
    async with before_scripts(tmp_path, {"small": answering(answer)}, one_pool()) as endpoint:
        reply = await endpoint.ask("POST", COMPLETIONS, data=b'{"model":"chat","prompt":["a",  "b"]}')
        [received] = endpoint.upstream["small"].received
    assert (received.path, received.body) == (COMPLETIONS, b'{"model":' + NAME + b',"prompt":["a",  "b"]}')
    assert reply.body == answer


async def test_an_answer_comes_down_with_its_cost_and_nothing_else_changed(tmp_path: Path) -> None:
    """The answer's bytes are the engine's, but for `usage.cost`, which is what the tenant paid."""
    async with before_scripts(tmp_path, {"small": answering(ANSWER)}, one_pool()) as endpoint:
        reply = await endpoint.ask("POST", CHAT, data=UP)
        await endpoint.settled()
        [row] = endpoint.rows()
    cost = reply.json["usage"].pop("cost")
    assert round(cost * 10**9) == row.amount_nusd > 0
    assert float(reply.headers["x-sluice-cost-usd"]) == cost
    assert reply.body.startswith(ANSWER[: ANSWER.index(b'"usage"')])
    assert reply.body.endswith(b', "new_field": 1.50}')


async def test_an_answer_without_usage_stays_as_it_is(tmp_path: Path) -> None:
    """Where the engine counted no tokens there is nothing to write the cost into; the header has it."""
    body = b'{"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}], "usage": null}'
    async with before_scripts(tmp_path, {"small": answering(body)}, one_pool()) as endpoint:
        reply = await endpoint.ask("POST", CHAT, data=UP)
        request = await endpoint.request()
    assert reply.body == body
    assert float(reply.headers["x-sluice-cost-usd"]) > 0
    assert (request.prompt_tokens, request.completion_tokens, request.baseline_nusd) == (None, None, None)


async def test_frames_come_down_as_they_are(tmp_path: Path) -> None:
    """A stream that has no usage in its frames is relayed byte for byte."""
    chunks = (ROLE, text_frame("h\u00e9"), text_frame("llo", "stop"), DONE)
    assert await relayed(tmp_path, *chunks) == b"".join(chunks)


async def test_usage_in_each_chunk_is_taken_out(tmp_path: Path) -> None:
    """The usage that routing asked for is cut out of the chunks, and its own chunk does not come."""
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]%s}\n\n'
    got = await relayed(tmp_path, ROLE, chunk % b',"usage":{"prompt_tokens":3}', USAGE, DONE)
    assert got == ROLE + chunk % b"" + DONE


async def test_who_asked_for_usage_in_each_chunk_gets_it(tmp_path: Path) -> None:
    """A client that knows the engine's own option keeps it, and the last chunk has the cost."""
    chunk = frame(
        choices=[{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}], usage={"prompt_tokens": 3}
    )
    options = {"include_usage": True, "continuous_usage_stats": True}
    got = await relayed(tmp_path, ROLE, chunk, USAGE, DONE, stream_options=options)
    assert got.startswith(ROLE + chunk)
    assert events(got)[-2]["usage"]["cost"] > 0


async def test_a_stream_that_never_sends_usage_is_paid_all_the_same(tmp_path: Path) -> None:
    """An engine may ignore that usage was asked for: the answer is complete, tokens are unknown, time is charged."""
    chunks = (ROLE, text_frame("hi", "stop"), DONE)
    async with before_scripts(tmp_path, {"small": streaming(*chunks)}, one_pool()) as endpoint:
        reply = await endpoint.chat(stream=True, stream_options={"include_usage": True})
        request = await endpoint.request()
        [row] = endpoint.rows()
    assert reply.body == b"".join(chunks)
    assert (request.outcome, request.completion_tokens) == ("served", None)
    assert row.amount_nusd > 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_tokens_by_the_engine_s_count_are_in_the_ledger(tmp_path: Path, streamed: bool) -> None:
    """Usage is read whether or not the client asked for it."""
    script = streaming(ROLE, text_frame("hi", "stop"), USAGE, DONE) if streamed else answering(ANSWER)
    async with before_scripts(tmp_path, {"small": script}, one_pool()) as endpoint:
        await endpoint.chat(stream=streamed)
        request = await endpoint.request()
        [row] = endpoint.rows()
    assert (request.prompt_tokens, request.completion_tokens) == (3, 2)
    assert (row.prompt_tokens, row.completion_tokens) == (3, 2)


async def test_the_headers_say_how_it_was_served(tmp_path: Path) -> None:
    """Request id, pool, GPU, tier, attempts and policy version are on every answer, and the id is the ledger's."""
    async with before_scripts(tmp_path, {"small": answering(ANSWER)}, one_pool()) as endpoint:
        reply = await endpoint.chat()
        request = await endpoint.request()
        version = endpoint.service.policy.version
    said = {name: reply.headers[f"x-sluice-{name}"] for name in ("request-id", "pool", "gpu", "tier", "attempts")}
    assert said == {
        "request-id": request.request_id,
        "pool": "small",
        "gpu": "A10",
        "tier": "premium",
        "attempts": "1",
    }
    assert reply.headers["x-sluice-policy-version"] == version


async def test_a_pool_gets_its_own_key_and_never_the_client_s(tmp_path: Path) -> None:
    """The client's key ends at the router; the pool's comes from the environment."""
    async with before_scripts(tmp_path, {"small": answering(ANSWER)}, one_pool()) as endpoint:
        await endpoint.chat()
        [received] = endpoint.upstream["small"].received
    assert "authorization" not in received.headers
    assert received.headers["x-request-id"].startswith("req_")


async def test_ids_of_requests_sort_as_the_requests_came(tmp_path: Path) -> None:
    """They begin with the time, so that a ledger's indexes grow at their end; two never share one."""
    async with before_scripts(tmp_path, {"small": answering(ANSWER)}, one_pool()) as endpoint:
        ids = [(await endpoint.chat()).headers["x-sluice-request-id"] for _ in range(3)]
    assert ids == sorted(set(ids))
    assert len(ids) == 3


SIMPLE = {"prompt": "where to", "schema": {"type": "object"}, "max_tokens": 9, "temperature": 0.5}


def completion_of(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode()


async def generate(endpoint: Endpoint, body: Any) -> Any:
    reply = await endpoint.ask("POST", "/generate", json=body)
    assert reply.status == 200, reply.body
    return reply.json


async def test_generate_asks_as_a_chat_and_answers_with_the_object(tmp_path: Path) -> None:
    """The simple form becomes one user message with a schema; its answer is the parsed object, priced."""
    script = answering(completion_of('{"city": "Bonn"}'))
    async with before_scripts(tmp_path, {"small": script}, one_pool()) as endpoint:
        answer = await generate(endpoint, SIMPLE)
        [received] = endpoint.upstream["small"].received
        request = await endpoint.request()
    up = json.loads(received.body)
    assert up["messages"] == [{"role": "user", "content": "where to"}]
    assert up["response_format"]["json_schema"]["schema"] == SIMPLE["schema"]
    assert (up["max_tokens"], up["temperature"], received.path) == (9, 0.5, CHAT)
    assert (answer["text"], answer["pool"], answer["request_id"]) == ({"city": "Bonn"}, "small", request.request_id)
    assert answer["usage"]["cost"] > 0
    assert request.endpoint == "/generate"


async def test_generate_without_a_schema_answers_with_text(tmp_path: Path) -> None:
    """Free text stays text, JSON in it or not."""
    async with before_scripts(tmp_path, {"small": answering(completion_of('{"a": 1}'))}, one_pool()) as endpoint:
        assert (await generate(endpoint, {"prompt": "x"}))["text"] == '{"a": 1}'
