"""A real vLLM dies, freezes or is told to stop while it answers: what has not begun is answered by another pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.before_vllm import before_vllm
from support.endpoint import ASK, CHAT, KEYS, Endpoint, Reply, events
from support.real_vllm import RealVllm

LENGTH = 950  # tokens: seconds of work, and every server has the room
ONE: dict[str, Any] = {"max_tokens": LENGTH, "ignore_eos": True, "temperature": 0}
# Several answers cannot be continued elsewhere.
SEVERAL: dict[str, Any] = {"max_tokens": LENGTH, "ignore_eos": True, "seed": 1, "n": 5}
PATIENCE: dict[str, Any] = {"first_token_timeout_s": 15, "stall_timeout_s": 10}  # beyond what a busy machine needs

# What happens, to which server (each starts again while the next test uses another), and what it may come to. A server
# that is told to stop falls silent in some streams and ends others with finish reason `abort`.
MISFORTUNES: dict[str, tuple[Callable[[RealVllm], None], str, set[str]]] = {
    "engine killed": (RealVllm.kill_engine, "long", {"unavailable"}),
    "server killed": (RealVllm.kill_server, "narrow", {"unavailable"}),
    "server told to stop": (RealVllm.terminate, "short", {"timeout", "unavailable"}),
    "engine frozen": (RealVllm.freeze, "long", {"timeout"}),
}


async def begin(endpoint: Endpoint, **body: Any) -> aiohttp.ClientResponse:
    """A stream that has begun: its first frame has been read."""
    headers = {"Authorization": f"Bearer {KEYS['acme']}"}
    sent = {"model": "chat", "messages": ASK, "stream": True, **body}
    response = await endpoint.session.post(endpoint.url + CHAT, json=sent, headers=headers)
    await response.content.readuntil(b"\n\n")
    return response


def attempts(endpoint: Endpoint, headers: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(pool, outcome, who pays) of each attempt of the request that these headers answer."""
    rows = [row for row in endpoint.rows() if row.request_id == headers["x-sluice-request-id"]]
    return [(row.pool, row.outcome, row.account) for row in rows]


@contextlib.asynccontextmanager
async def standing_still(engine: RealVllm) -> AsyncIterator[None]:
    """The engine does nothing while the block sets the scene, however slow the machine."""
    engine.freeze()
    try:
        yield
    finally:
        engine.thaw()


@pytest.mark.parametrize("name", MISFORTUNES)
async def test_what_another_pool_can_answer_it_answers(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    """Streamed or not, a request without a word so far is answered by the other pool; a stream that had begun goes on
    there, with the text of an unbroken one, or ends with an error event where it cannot. The house pays for the rest.
    """
    strikes, first, failures = MISFORTUNES[name]
    second = "narrow" if first == "short" else "short"
    struck, spare = request.getfixturevalue(first), request.getfixturevalue(second)
    async with before_vllm(tmp_path, {first: struck, second: spare}, **PATIENCE) as endpoint:
        unbroken = await endpoint.chat(**ONE, model=second)
        one, several = await asyncio.gather(begin(endpoint, **ONE), begin(endpoint, **SEVERAL))
        async with standing_still(struck):
            waiting = [asyncio.create_task(endpoint.chat(stream=streamed, max_tokens=8)) for streamed in (True, False)]
            await struck.until_server_has(4)
        strikes(struck)
        broken = events(await several.content.read())
        moved: list[Reply] = await asyncio.gather(*waiting)
        continued = events(await one.content.read())
        await endpoint.settled()
        assert [reply.status for reply in moved] == [200, 200]
        for headers in (one.headers, *(reply.headers for reply in moved)):
            assert len(attempts(endpoint, headers)) == 2, attempts(endpoint, headers)
            (pool, failure, payer), answered = attempts(endpoint, headers)
            assert (pool, failure in failures, payer) == (first, True, "__failed__")
            assert answered == (second, "answered", "acme")
        [(pool, failure, payer)] = attempts(endpoint, several.headers)
        assert (pool, failure in failures, payer) == (first, True, "__failed__")
    assert broken[-1]["error"]["code"] == "stream_broken"
    assert continued[-1] == "[DONE]"
    assert said(continued) == unbroken.json["choices"][0]["message"]["content"]


def said(stream: list[Any]) -> str:
    return "".join(choice["delta"].get("content", "") for event in stream[:-1] for choice in event["choices"])


async def test_a_frozen_engine_looks_healthy_and_lets_go_of_what_was_given_up(tmp_path: Path, long: RealVllm) -> None:
    """`/health` answers 200 all the while; once it goes on, the engine finds its requests aborted."""
    async with before_vllm(tmp_path, {"long": long}, **PATIENCE, max_attempts=1) as endpoint:
        long.freeze()
        reply = await endpoint.chat(**ONE, stream=True)
        healthy = await asyncio.to_thread(long.healthy)
        long.thaw()
        await long.until_engine_has(0)
    assert (reply.status, reply.code) == (504, "chain_timeout")
    assert healthy


async def test_a_server_that_drains_finishes_what_it_has_and_gets_nothing_new(
    tmp_path: Path, narrow: RealVllm, long: RealVllm
) -> None:
    """With `--shutdown-timeout` what runs and what waits is completed; whoever comes later is served elsewhere."""
    async with before_vllm(tmp_path, {"narrow": narrow, "long": long}) as endpoint:
        started = await begin(endpoint, **SEVERAL)
        whole = asyncio.create_task(endpoint.chat(max_tokens=400, ignore_eos=True))
        await narrow.until_engine_has(6)
        narrow.terminate()
        later = await endpoint.chat(max_tokens=8)
        rest, finished = await started.content.read(), await whole
        await endpoint.settled()
        assert attempts(endpoint, started.headers) == [("narrow", "answered", "acme")]
        assert attempts(endpoint, finished.headers) == [("narrow", "answered", "acme")]
        assert attempts(endpoint, later.headers)[-1] == ("long", "answered", "acme")
    assert events(rest)[-1] == "[DONE]"
    assert finished.json["usage"]["completion_tokens"] == 400
