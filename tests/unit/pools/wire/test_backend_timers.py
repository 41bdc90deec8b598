"""The HTTP backend's time limits against a real server: first token, stalls, slow readers, deadlines, leaving."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.frames import SILENT_FRAMES_AT_MOST
from pools.wire.http import HttpBackend
from pricing.clock import ScaledClock
from support.backends import REQUEST, backend, drain, fails, streaming
from support.scripted_server import DONE, ROLE, Exchange, Script, frame, scripted, text_frame
from support.values import replace

EMPTY = frame(choices=[])  # a frame that says nothing


def counted(tokens: int) -> bytes:
    """A chunk without a word that says how many tokens there are."""
    return frame(
        choices=[{"index": 0, "delta": {"content": ""}}], usage={"prompt_tokens": 5, "completion_tokens": tokens}
    )


async def streaming_for_ever(exchange: Exchange) -> None:
    """A word every few milliseconds, and no end."""
    await exchange.start_stream()
    await exchange.chunk(ROLE)
    while True:
        await exchange.chunk(text_frame("w"))
        await asyncio.sleep(0.005)


async def test_headers_of_200_are_no_sign_of_a_first_token(session: aiohttp.ClientSession) -> None:
    """With headers and keep-alive comments only, the first-token timer ends the attempt."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        while True:
            await exchange.chunk(b": keep-alive\n\n")
            await asyncio.sleep(0.005)

    failure = await fails(script, session, replace(REQUEST, first_token_timeout_s=5), speedup=100)
    assert (failure.failure, failure.by_client_deadline) == (FailureClass.TIMEOUT, False)
    assert "first token" in failure.detail


async def test_comments_between_tokens_are_no_progress(session: aiohttp.ClientSession) -> None:
    """The stall timer runs from the last data frame, whatever keep-alives come."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(text_frame("a"))
        while True:
            await exchange.chunk(b": keep-alive\n\n")
            await asyncio.sleep(0.005)

    failure = await fails(script, session, replace(REQUEST, stall_timeout_s=5), speedup=100)
    assert failure.failure is FailureClass.TIMEOUT
    assert "next token within 5 s" in failure.detail


def beating(*pieces: bytes, beat: bytes = EMPTY) -> Script:
    """A script that sends these chunks, and then one that says nothing, again and again."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for piece in pieces:
            await exchange.chunk(piece)
        while True:
            await exchange.chunk(beat)
            await asyncio.sleep(0.005)

    return script


@pytest.mark.parametrize("beat", [EMPTY, text_frame(""), ROLE, counted(1)])
async def test_frames_that_say_nothing_are_no_progress(beat: bytes, session: aiohttp.ClientSession) -> None:
    """Neither empty choices nor empty texts, nor the same count again, hold a timer off."""
    request = replace(REQUEST, first_token_timeout_s=5, stall_timeout_s=5)
    spoken = await fails(beating(ROLE, text_frame("a"), counted(1), beat=beat), session, request, speedup=100)
    assert (spoken.failure, spoken.detail) == (FailureClass.TIMEOUT, "no next token within 5 s")
    if beat == counted(1):
        return
    silent = await fails(beating(ROLE, beat=beat), session, request, speedup=100)
    assert (silent.failure, silent.detail) == (FailureClass.TIMEOUT, "no first token within 5 s")


async def test_tokens_that_are_counted_are_progress(session: aiohttp.ClientSession) -> None:
    """An engine may hold words back that could become a tool call; its count shows that it generates."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for tokens in range(20):
            await exchange.chunk(counted(tokens))
            await asyncio.sleep(0.03)
        await exchange.chunk(text_frame("a", "stop") + DONE)
        await exchange.end_stream()

    async with scripted(script) as server:
        request = replace(REQUEST, first_token_timeout_s=40, stall_timeout_s=40)
        frames = [seen async for seen in await backend(server.url, session, 100).stream(request)]
    assert len(frames) == 22


async def test_an_answer_of_frames_without_a_word_is_none(session: aiohttp.ClientSession) -> None:
    """What is kept of an answer that has not begun is bounded, however fast it comes."""
    flood = streaming(ROLE, *[EMPTY * 100] * (SILENT_FRAMES_AT_MOST // 100 + 1), end=False)
    failure = await fails(flood, session)
    assert (failure.failure, "without a word" in failure.detail) == (FailureClass.UNAVAILABLE, True)


async def test_a_complete_answer_is_not_waited_for(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last finish reason a server that hangs is left within moments, and the answer is good."""
    monkeypatch.setattr("pools.wire.frames.LAST_WORDS_S", 0.05)
    left = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame("a"))
        await exchange.chunk(text_frame("", "stop"))
        await exchange.client_left()
        left.set()

    async with scripted(script) as server:
        stream = await backend(server.url, session).stream(replace(REQUEST, stall_timeout_s=500))
        assert len([seen async for seen in stream]) == 3
        await left.wait()


async def test_a_reader_that_is_too_slow_for_its_answer_is_the_client(session: aiohttp.ClientSession) -> None:
    """The time is over while the pool waits to be read: that is no timeout of the pool."""
    clock = ScaledClock(100)
    async with scripted(streaming_for_ever) as server:
        stream = await HttpBackend(server.url, session, clock).stream(replace(REQUEST, total_timeout_s=5))
        await anext(aiter(stream))
        await clock.sleep(10)
        with pytest.raises(AttemptFailed) as caught:
            await drain(stream, [])
    assert caught.value.failure is FailureClass.CLIENT_GONE


async def test_a_slow_reader_is_no_stall(session: aiohttp.ClientSession) -> None:
    """Time that the client takes between two frames does not count against the pool."""
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(text_frame("a"))
        await release.wait()
        await exchange.chunk(text_frame("b", "stop"))
        await exchange.chunk(DONE)
        await exchange.end_stream()

    clock = ScaledClock(100)
    async with scripted(script) as server:
        stream = await HttpBackend(server.url, session, clock).stream(replace(REQUEST, stall_timeout_s=2))
        assert (await anext(aiter(stream))).raw == text_frame("a")
        await clock.sleep(10)
        release.set()
        assert len([seen async for seen in stream]) == 2


async def test_a_steady_stream_ends_at_its_total_time(session: aiohttp.ClientSession) -> None:
    """Data frames hold off the stall timer but not the total one."""
    request = replace(REQUEST, total_timeout_s=20, stall_timeout_s=10)
    failure = await fails(streaming_for_ever, session, request, speedup=100)
    assert "end of the answer within 20 s" in failure.detail


@pytest.mark.parametrize("stream", [True, False])
async def test_a_clients_own_deadline_is_marked_as_such(stream: bool, session: aiohttp.ClientSession) -> None:
    """A timeout that the client asked for says so, so that no breaker counts it."""

    async def script(exchange: Exchange) -> None:
        await exchange.client_left()

    request = replace(REQUEST, stream=stream, first_token_timeout_s=3, total_timeout_s=3, first_token_by_client=True)
    failure = await fails(script, session, request, speedup=100)
    assert (failure.failure, failure.by_client_deadline) == (FailureClass.TIMEOUT, True)


@pytest.mark.parametrize("by_client", [True, False])
async def test_whose_deadline_ends_a_stream_is_known(by_client: bool, session: aiohttp.ClientSession) -> None:
    """A stream that ran into the end of its total time says whether the client or the policy set it."""
    limits = replace(REQUEST, first_token_timeout_s=3, total_timeout_s=5, total_by_client=by_client)
    failure = await fails(streaming_for_ever, session, limits, speedup=100)
    assert (failure.failure, failure.by_client_deadline) == (FailureClass.TIMEOUT, by_client)


@pytest.mark.parametrize("when", ["before the headers", "before a token", "amid the stream"])
async def test_cancelling_closes_the_upstream_connection(when: str, session: aiohttp.ClientSession) -> None:
    """The server sees the client go when the task that waits is cancelled, at whatever point."""
    reached, left = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if when != "before the headers":
            await exchange.start_stream()
        if when == "amid the stream":
            await exchange.chunk(text_frame("a"))
        else:
            reached.set()
        await exchange.client_left()
        left.set()

    async def attempt(pool: HttpBackend) -> None:
        stream = await pool.stream(REQUEST)
        async for _ in stream:
            reached.set()

    async with scripted(script) as server:
        task = asyncio.create_task(attempt(backend(server.url, session)))
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await left.wait()


async def test_closing_a_stream_closes_the_upstream_connection(session: aiohttp.ClientSession) -> None:
    """`aclose` amid a stream hangs up."""
    left = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(text_frame("a"))
        await exchange.client_left()
        left.set()

    async with scripted(script) as server:
        stream = await backend(server.url, session).stream(REQUEST)
        await stream.aclose()
        async with asyncio.timeout(10):
            await left.wait()
