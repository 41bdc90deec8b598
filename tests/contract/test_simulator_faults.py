"""Failures on demand end the way they were recorded on vLLM 0.32.0, and hit what they are said to hit."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from pools.simulator import EngineSettings, SimulatorSettings
from support.simulated import CAPABLE, SPEC, Running, frames, simulated, text_of
from support.values import replace
from support.vllm_recordings import recording

ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 40, "ignore_eos": True}
CHAT = "/v1/chat/completions"
QUIET_S = 0.05  # real seconds without a byte: five seconds of the pool's life, in which any answer would be complete


def end_of(name: str) -> list[object]:
    """The last two frames of a recorded stream: its error, and `[DONE]` all the same."""
    return frames(recording(f"v0.32.0/{name}").body)[-2:]


async def read_quietly(response: aiohttp.ClientResponse) -> bytes:
    """What comes until nothing has come for a while."""
    received = b""
    while True:
        try:
            async with asyncio.timeout(QUIET_S):
                chunk = await response.content.readany()
        except TimeoutError:
            return received
        assert chunk, "the connection was closed"
        received += chunk


async def read_to_the_break(response: aiohttp.ClientResponse) -> bytes:
    """What comes until the connection breaks off in the middle of the body."""
    received = b""
    while True:
        try:
            chunk = await response.content.readany()
        except aiohttp.ClientPayloadError:
            return received
        assert chunk, "the body was complete"
        received += chunk


async def test_out_of_memory_says_so_and_the_container_lives() -> None:
    """A 500 with CUDA's text in vLLM's error object, inside the stream when streamed; the next request is served."""
    async with simulated() as server:
        before = await server.containers()
        await server.fail("out_of_memory", count=2)
        status, body = await server.chat()
        streamed_status, streamed = await server.chat(stream=True)
        after_status, _ = await server.chat()
        assert await server.containers() == before
    error = json.loads(body)["error"]
    assert status == error["code"] == 500
    assert "CUDA out of memory" in error["message"]
    assert streamed_status == 200
    assert frames(streamed) == [{"error": error}, "[DONE]"]
    assert after_status == 200


async def test_engine_death_ends_everything_in_flight_and_the_container_is_replaced() -> None:
    """The one who triggers it and the one beside it get the recorded 500; another container boots."""
    async with simulated() as server:
        (victim,) = await server.containers()
        async with server.session.post(server.url + CHAT, json=ASK | {"max_tokens": 400, "stream": True}) as beside:
            await server.fail("engine_death", after_tokens=3)
            status, body = await server.chat()
            rest = await beside.read()
        while victim in await server.containers():
            pass
        (replacement,) = await server.containers()
    assert (status, body) == (500, recording("v0.32.0/kill_engine_nonstream1").body)
    assert frames(rest)[-2:] == end_of("kill_engine_stream0")
    assert replacement["id"] != victim["id"]
    assert replacement["state"] == "booting"


async def test_a_crash_mid_stream_ends_in_an_error_and_a_clean_done() -> None:
    """Tokens, the recorded error frame, `[DONE]`, and no finish reason anywhere; the others do not notice."""
    async with simulated() as server:
        await server.fail("crash_mid_stream", after_tokens=5)
        status, body = await server.chat(**ASK, stream=True, stream_options={"include_usage": True})
        _, whole = await server.chat(**ASK)
    events = frames(body)
    assert status == 200
    assert events[-2:] == end_of("kill_worker_stream0")
    assert json.loads(whole)["choices"][0]["message"]["content"].startswith(text_of(events))
    assert text_of(events).count(" ") == 5
    assert not any(choice["finish_reason"] for event in events[:-2] for choice in event["choices"])


async def test_a_crash_can_cut_the_connection_instead() -> None:
    """With `reset` the stream breaks off without a last chunk, as when the API server was killed."""
    assert frames(recording("v0.32.0/kill_api_0").body)[-1] != "[DONE]"
    async with simulated() as server:
        await server.fail("crash_mid_stream", after_tokens=5, reset=True)
        async with server.session.post(server.url + CHAT, json=ASK | {"stream": True}) as response:
            received = await read_to_the_break(response)
    assert text_of(frames(received)).count(" ") == 5


async def test_a_hang_answers_health_and_nothing_else() -> None:
    """Headers come at once, then nothing; health stays 200 and the metrics count it as running."""
    async with simulated() as server:
        await server.fail("hang")
        async with server.session.post(server.url + CHAT, json=ASK | {"stream": True}) as response:
            assert response.status == 200
            assert await read_quietly(response) == b""
            async with server.session.get(server.url + "/health") as health:
                assert health.status == 200
            async with server.session.get(server.url + "/metrics") as metrics:
                assert 'num_requests_running{engine="0",model_name="tiny-qwen3"} 1.0' in await metrics.text()


async def test_a_stall_stops_without_an_error_or_an_end() -> None:
    """As under SIGTERM: tokens, then silence on an open connection."""
    assert recording("v0.32.0/sigterm_api_stream0").terminated is False
    async with simulated() as server:
        await server.fail("stall", after_tokens=4)
        async with server.session.post(server.url + CHAT, json=ASK | {"stream": True}) as response:
            events = frames(await read_quietly(response))
    assert text_of(events).count(" ") == 4
    assert all(event["choices"][0]["finish_reason"] is None for event in events)


@pytest.mark.parametrize("streamed", [False, True])
async def test_overload_is_the_recorded_refusal(streamed: bool) -> None:
    """503 with the engine's body; streamed, the same inside a 200 with `[DONE]`."""
    name = "queue_overflow_stream_http200" if streamed else "queue_overflow_503_reqs"
    expected = recording(f"v0.32.0/{name}")
    async with simulated() as server:
        await server.fail("overload")
        assert await server.chat(**ASK, stream=streamed) == (expected.status, expected.body)


async def test_a_bounded_queue_refuses_by_itself() -> None:
    """With max_num_queued_reqs the second request beside a running one gets the recorded 503."""
    settings = SimulatorSettings(EngineSettings(max_num_queued_reqs=1))
    async with simulated(settings=settings) as server:
        await server.fail("slow", factor=1000)
        async with server.session.post(server.url + CHAT, json=ASK | {"stream": True}):
            status, body = await server.chat(**ASK)
    assert (status, body) == (503, recording("v0.32.0/queue_overflow_503_reqs").body)


async def test_a_refused_connection_has_no_answer() -> None:
    """`refuse` cuts the connection before a status line."""
    async with simulated() as server:
        await server.fail("refuse")
        with pytest.raises(aiohttp.ClientConnectionError):
            await server.chat(**ASK)
        assert (await server.chat(**ASK))[0] == 200


async def test_slow_takes_as_many_times_longer() -> None:
    """A factor of 10 makes the container busy about ten times as long for the same answer."""

    async def busy_us(server: Running) -> int:
        bill = await server.control("GET", "/bill")
        await server.chat(**ASK)
        return int((await server.control("GET", "/bill"))[SPEC.name]["busy_us"] - bill[SPEC.name]["busy_us"])

    async with simulated() as server:
        normal_us = await busy_us(server)
        await server.fail("slow", factor=10)
        slow_us = await busy_us(server)
    assert 8 * normal_us < slow_us < 11 * normal_us


async def test_bad_answers_come_with_good_manners() -> None:
    """`garbage` is no JSON, `bad_json` breaks off with `stop`, `empty` has no text: all with status 200."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    async with simulated(CAPABLE) as server:
        answers = []
        for kind in ("garbage", "bad_json", "empty"):
            await server.fail(kind)
            answers.append(await server.chat(response_format=wanted))
    assert [status for status, _ in answers] == [200, 200, 200]
    garbage, bad_json, empty = (body for _, body in answers)
    with pytest.raises(ValueError):
        json.loads(garbage)
    choice = json.loads(bad_json)["choices"][0]
    assert choice["finish_reason"] == "stop"
    with pytest.raises(ValueError):
        json.loads(choice["message"]["content"])
    assert json.loads(empty)["choices"][0]["message"]["content"] == ""


async def test_an_abort_looks_like_an_end() -> None:
    """Status 200, finish reason `abort` and a clean `[DONE]`, streamed or not, after as many tokens as were ordered."""
    async with simulated() as server:
        await server.fail("abort", after_tokens=3, count=2)
        _, whole = await server.chat(max_tokens=20)
        _, streamed = await server.chat(max_tokens=20, stream=True)
        _, good = await server.chat(max_tokens=20)
    choice = json.loads(whole)["choices"][0]
    assert (choice["finish_reason"], json.loads(whole)["usage"]["completion_tokens"]) == ("abort", 3)
    *chunks, done = frames(streamed)
    assert (chunks[-1]["choices"][0]["finish_reason"], done) == ("abort", "[DONE]")
    assert text_of(chunks) == choice["message"]["content"]
    assert json.loads(good)["choices"][0]["finish_reason"] == "length"


async def test_keep_alive_comments_fill_the_wait() -> None:
    """With an interval set, a stream that waits gets the recorded comment, which is no data frame."""
    settings = SimulatorSettings(keep_alive_s=1.0)
    async with simulated(settings=settings) as server:
        await server.fail("hang")
        async with server.session.post(server.url + CHAT, json=ASK | {"stream": True}) as response:
            first = await response.content.readuntil(b"\n\n")
    assert first in recording("v0.32.0/sse_keepalive_queued").body
    assert first.startswith(b":")


async def test_a_client_that_leaves_frees_its_place() -> None:
    """Closing the connection ends the request: the container goes idle."""
    async with simulated(replace(SPEC, max_concurrency=1, target_concurrency=1, max_containers=1)) as server:
        await server.fail("hang")
        async with server.session.post(server.url + CHAT, json=ASK | {"stream": True}) as response:
            full, body = await server.chat(**ASK)
            response.close()
        while (await server.chat(**ASK))[0] == 429:
            pass
    assert full == 429
    assert b"error" not in body


async def test_a_pool_taken_down_cuts_connections_and_boots_nothing() -> None:
    """Down: what runs is cut, requests have no answer, nothing is alive; up again, it boots as ever."""
    async with simulated() as server:
        async with server.session.post(server.url + CHAT, json=ASK | {"max_tokens": 400, "stream": True}) as running:
            await server.control("POST", f"/pools/{SPEC.name}/down")
            with pytest.raises(aiohttp.ClientError):
                await running.read()
        with pytest.raises(aiohttp.ClientConnectionError):
            await server.chat(**ASK)
        assert await server.containers() == []
        assert await server.control("POST", f"/pools/{SPEC.name}/wake") == {"started": False}
        await server.control("POST", f"/pools/{SPEC.name}/up")
        assert (await server.chat(**ASK))[0] == 503
        assert [container["state"] for container in await server.containers()] == ["booting"]


async def test_faults_can_be_cleared_and_wrong_ones_are_explained() -> None:
    """DELETE takes every order back; a wrong order, pool or path says what is right."""
    async with simulated() as server:
        await server.fail("refuse", count=9)
        await server.control("DELETE", f"/pools/{SPEC.name}/fail")
        assert (await server.chat(**ASK))[0] == 200
        wrong = await server.control("POST", f"/pools/{SPEC.name}/fail", {"kind": "flood"})
        unknown = await server.control("POST", "/pools/nope/wake")
        lost = await server.control("GET", "/nowhere")
    assert "'kind' is one of out_of_memory" in wrong["error"]
    assert unknown["error"] == f"no pool 'nope'; pools: {SPEC.name}"
    assert "docs/simulator.md" in lost["error"]


async def test_a_broken_stream_continues_exactly_by_token_ids() -> None:
    """Prompt ids + ids so far, sent to the completions endpoint, yield the rest of the unbroken answer at every cut."""
    body = ASK | {"stream": True, "return_token_ids": True, "max_tokens": 12}
    async with simulated() as server:
        events = frames((await server.post(CHAT, body))[1])[:-1]
        prompt = events[0]["prompt_token_ids"]
        ids = [token for event in events[1:] for token in event["choices"][0]["token_ids"]]
        rests = []
        for cut in range(1, 12):
            more = {"prompt": prompt + ids[:cut], "max_tokens": 12 - cut, "return_token_ids": True, "ignore_eos": True}
            rests.append(json.loads((await server.post("/v1/completions", more))[1])["choices"][0])
    assert len(ids) == 12
    assert [rest["token_ids"] for rest in rests] == [ids[cut:] for cut in range(1, 12)]
    assert all(text_of(events).endswith(rest["text"]) for rest in rests)
