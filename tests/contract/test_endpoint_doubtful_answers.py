"""Answers that are odd but not refused by the pool: what reaches the client, what is charged, who is asked next."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.endpoint import ASK, KEYS, before_scripts, events, policy
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, Script, frame, text_frame

OBJECT: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
BUFFERED = policy(classes={"chat": {"ladder": {"economy": ["small"], "premium": ["mid"]}, "buffer": True}})


def whole(message: str, more: str = "") -> bytes:
    """An answer whose one choice has that message, as JSON."""
    return b'{"choices":[{"index":0,"message":%b,"finish_reason":"stop"}]%b}' % (
        message.encode(),
        more.encode("latin-1"),
    )


def answers(body: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", body)

    return script


GOOD = whole('{"role":"assistant","content":"{}"}', ',"usage":{"prompt_tokens":1,"completion_tokens":1}')


@pytest.mark.parametrize(
    "odd",
    [
        whole("null"),
        b'{"choices":[{"index":0,"text":"{}","finish_reason":"stop"}]}',
        whole('{"content":"{}","tool_calls":"x"}'),
        whole('{"content":"{}","tool_calls":[1]}'),
    ],
    ids=["no message", "a completion", "calls that are a word", "calls that are numbers"],
)
async def test_an_answer_that_makes_no_stream_is_another_pool_s_to_give(tmp_path: Path, odd: bytes) -> None:
    """What cannot be said as a stream is found out while another pool can still be asked, and the house pays for it."""
    async with before_scripts(tmp_path, {"small": answers(odd), "mid": answers(GOOD)}, BUFFERED) as endpoint:
        reply = await endpoint.chat(model="chat:economy", stream=True, response_format=OBJECT)
        assert (reply.status, reply.complete, events(reply.body)[-1]) == (200, True, "[DONE]")
        request = await endpoint.request()
        assert (request.outcome, request.pool, request.attempts) == ("served", "mid", 2)


async def test_an_answer_that_is_not_utf_8_is_none(tmp_path: Path) -> None:
    """Bytes that no client can read are a broken answer, whatever key they stand in."""
    odd = whole('{"content":"x"}', ',"usage" : {"prompt_tokens":1},"\xff":1')
    async with before_scripts(tmp_path, {"small": answers(odd), "mid": answers(GOOD)}) as endpoint:
        reply = await endpoint.chat(model="chat:economy")
        assert (reply.status, reply.headers["x-sluice-pool"]) == (200, "mid")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_cost_in_the_answer_is_the_whole_charge(tmp_path: Path, stream: bool) -> None:
    """`usage.cost`, the ledger and, where it is known in time, the header say the same, failed attempts included."""

    async def bad(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        if json.loads(exchange.request.body).get("stream"):
            await exchange.start_stream()
            await exchange.chunk(ROLE + text_frame("", "stop") + DONE)
            await exchange.end_stream()
        else:
            await exchange.answer("200 OK", whole('{"content":""}'))

    async def good(exchange: Exchange) -> None:
        if json.loads(exchange.request.body).get("stream"):
            await exchange.start_stream()
            usage = frame(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 1})
            await exchange.chunk(ROLE + text_frame("{}", "stop") + usage + DONE)
            await exchange.end_stream()
        else:
            await exchange.answer("200 OK", GOOD)

    async with before_scripts(tmp_path, {"small": bad, "mid": good}) as endpoint:
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        reply = await endpoint.chat(model="chat:economy", **more)
        usage = events(reply.body)[-2]["usage"] if stream else reply.json["usage"]
        await endpoint.settled()
        charged_nusd = endpoint.charged_nusd()
        assert [row.outcome for row in endpoint.rows()] == ["bad_output", "answered"]
        assert charged_nusd > 50_000  # the failed attempt alone was metered for 0.2 s
        assert round(usage["cost"] * 10**9) == charged_nusd
        if not stream:
            assert reply.headers["x-sluice-cost-usd"] == f"{charged_nusd / 10**9:.9f}"


async def test_a_request_that_kills_engines_is_stopped_at_the_second(tmp_path: Path) -> None:
    """Two dead engines under one request are enough: the next pool is not put at risk."""

    async def dies(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ENGINE_DIED + DONE)
        await exchange.end_stream()

    scripts = dict.fromkeys(("small", "mid", "other", "big"), dies)
    async with before_scripts(tmp_path, scripts) as endpoint:
        reply = await endpoint.chat(model="chat:economy", stream=True)
        assert reply.status == 502
        assert "2 engines died under this request" in reply.json["error"]["message"]
        assert (await endpoint.request()).attempts == 2


async def test_an_upload_that_a_stop_meets_is_served_within_the_grace_time(tmp_path: Path) -> None:
    """A request whose body is still on its way counts as under way."""

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(1.0)
        await exchange.answer("200 OK", GOOD)

    async with before_scripts(tmp_path, {"small": slow}, grace_s=20.0) as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
        body = json.dumps({"model": "chat:economy", "messages": ASK}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['acme']}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-5])
        await writer.drain()
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(len, endpoint.service.ongoing):
                pass
        endpoint.server.should_exit = True
        await asyncio.sleep(0.3)  # the stop is under way
        writer.write(body[-5:])
        status = await reader.readline()
        writer.close()
        assert b" 200 " in status


async def test_a_chat_without_a_bound_goes_on_where_its_answer_still_fits(tmp_path: Path) -> None:
    """What was said counts against the length that is assumed for an answer, and is not added to it."""
    prompt, said = 3_000, 200

    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/tokenize":
            await exchange.answer("200 OK", b'{"count":%d}' % prompt)
            return
        await exchange.start_stream()
        if exchange.request.path.endswith("/chat/completions"):
            usage = {"prompt_tokens": prompt, "completion_tokens": 0}
            delta = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            await exchange.chunk(frame(prompt_token_ids=list(range(prompt)), choices=[delta], usage=usage))
            for count in range(1, said + 1):
                usage = {"prompt_tokens": prompt, "completion_tokens": count}
                choice = {"index": 0, "delta": {"content": "w "}, "finish_reason": None, "token_ids": [7]}
                await exchange.chunk(frame(choices=[choice], usage=usage))
            await exchange.chunk(ENGINE_DIED + DONE)
        else:
            choice = {"index": 0, "text": "rest", "finish_reason": "stop", "token_ids": [9]}
            await exchange.chunk(frame(choices=[choice]) + DONE)
        await exchange.end_stream()

    files = policy(classes={"chat": {"ladder": {"premium": ["mid", "other"]}}})
    for pool in ("mid", "other"):
        files["pools"][pool]["max_model_len"] = 4096
    async with before_scripts(tmp_path, {"mid": script, "other": script}, files) as endpoint:
        long = [{"role": "user", "content": "word " * prompt}]
        reply = await endpoint.chat(messages=long, stream=True)
        assert events(reply.body)[-1] == "[DONE]"
        assert (await endpoint.request()).continued == 1


async def test_who_comes_while_a_pool_pauses_waits_for_it(tmp_path: Path) -> None:
    """The one that it refused and those who come meanwhile wait for the pause to end, and are served."""
    asked = 0

    async def busy_once(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await exchange.answer("429 Too Many Requests", b'{"error":{"message":"busy","code":429}}')
        else:
            await exchange.answer("200 OK", GOOD)

    files = policy(classes={"chat": {"ladder": {"premium": ["small"]}}})
    async with before_scripts(tmp_path, {"small": busy_once}, files) as endpoint:
        replies = await asyncio.gather(*(endpoint.chat() for _ in range(20)))
        assert [reply.status for reply in replies] == [200] * 20
        assert sorted(reply.headers["x-sluice-attempts"] for reply in replies) == ["1"] * 19 + ["2"]
