"""The HTTP backend against a real server: answers, errors, redirects, connections."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.backend import FrameKind
from pools.wire.http import ANSWER_BYTES, HttpBackend
from pricing.clock import ScaledClock
from support.backends import GOOD, REQUEST, backend, fails, streaming
from support.scripted_server import DONE, ROLE, Exchange, scripted, text_frame
from support.values import replace


async def test_a_stream_hands_out_data_frames_and_done_as_they_came(session: aiohttp.ClientSession) -> None:
    """Frames keep their bytes, comments are skipped, and a character split between two chunks arrives whole."""
    split = text_frame("grün")
    at = split.index("ü".encode()) + 1
    async with scripted(
        streaming(b": keep-alive\n\n", ROLE, split[:at], split[at:] + text_frame("", "stop"), DONE)
    ) as server:
        frames = [seen async for seen in await backend(server.url, session).stream(REQUEST)]
    assert b"".join(seen.raw for seen in frames) == ROLE + split + text_frame("", "stop") + DONE
    assert [seen.kind for seen in frames] == [FrameKind.DATA] * 3 + [FrameKind.DONE]


async def test_a_stream_that_comes_byte_by_byte_is_the_same_stream(session: aiohttp.ClientSession) -> None:
    """One byte per chunk of the transfer encoding changes nothing."""
    whole = ROLE + text_frame("é", "stop") + DONE
    async with scripted(streaming(*(whole[i : i + 1] for i in range(len(whole))))) as server:
        frames = [seen async for seen in await backend(server.url, session).stream(REQUEST)]
    assert b"".join(seen.raw for seen in frames) == whole


async def test_the_request_carries_key_headers_and_id(session: aiohttp.ClientSession) -> None:
    """Body, key, the endpoint's headers, the request's own and its id go up; the root may end in /v1."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", GOOD)

    async with scripted(script) as server:
        pool = HttpBackend(server.url + "/v1/", session, ScaledClock(), api_key="key", headers=(("Modal-Key", "k"),))
        answer = await pool.complete(replace(REQUEST, headers=(("Modal-Session-ID", "s"),)))
    received = server.received[0]
    assert answer.body == GOOD
    assert (received.method, received.path, received.body) == ("POST", REQUEST.path, REQUEST.body)
    wanted = {
        "authorization": "Bearer key",
        "modal-key": "k",
        "modal-session-id": "s",
        "x-request-id": "r-1",
        "content-type": "application/json",
        "accept-encoding": "identity",
    }
    assert wanted.items() <= received.headers.items()


async def test_connections_are_kept_after_answers_and_streams(session: aiohttp.ClientSession) -> None:
    """Four requests, streamed and not, need one TCP connection."""

    async def script(exchange: Exchange) -> None:
        if b'"stream"' in exchange.request.body:
            await streaming(ROLE, text_frame("a", "stop"), DONE)(exchange)
        else:
            await exchange.answer("200 OK", GOOD)

    async with scripted(script) as server:
        pool = backend(server.url, session)
        for _ in range(2):
            await pool.complete(REQUEST)
            stream = await pool.stream(replace(REQUEST, body=b'{"stream":true}'))
            assert len([seen async for seen in stream]) == 3
            await stream.aclose()
        assert server.connections == 1


async def test_small_writes_are_not_held_back(session: aiohttp.ClientSession) -> None:
    """Connections have TCP_NODELAY: without it a request on a kept connection may wait 40 ms for an acknowledgement."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.client_left()

    async with scripted(script) as server, session.post(server.url) as response:
        assert response.connection is not None
        assert response.connection.transport is not None
        sock = response.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_body_above_a_mebibyte_arrives_whole(session: aiohttp.ClientSession) -> None:
    """A body with images is sent in pieces, with its length."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", GOOD)

    body = b'{"x":"' + b"a" * (2 * 2**20) + b'"}'
    async with scripted(script) as server:
        await backend(server.url, session).complete(replace(REQUEST, body=body))
    assert server.received[0].body == body


async def test_a_port_that_nobody_listens_on_is_unavailable(session: aiohttp.ClientSession) -> None:
    """A refused connection is no death under a request: nothing ran there."""
    async with scripted(streaming()) as server:
        url = server.url
    with pytest.raises(AttemptFailed) as caught:
        await backend(url, session).stream(REQUEST)
    assert (caught.value.failure, caught.value.engine_died) == (FailureClass.UNAVAILABLE, False)


@pytest.mark.parametrize("url", ["not a url", "http://", "http://host:99999999", "ftp://127.0.0.1/"])
async def test_a_url_that_is_none_is_misconfigured(url: str, session: aiohttp.ClientSession) -> None:
    """A wrong endpoint is an operator's error, and no driver's exception leaves."""
    with pytest.raises(AttemptFailed) as caught:
        await backend(url, session).complete(REQUEST)
    assert caught.value.failure is FailureClass.MISCONFIGURED


async def test_a_client_error_is_kept_for_the_client_and_bounded(session: aiohttp.ClientSession) -> None:
    """An engine's body of a 400 is passed on as it is; a page without end is read to 64 KiB, and is nobody's answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("400 Bad Request", b'{"error":{"message":"n must be at least 1, got 0."}}')

    assert (await fails(script, session)).body == b'{"error":{"message":"n must be at least 1, got 0."}}'

    async def endless(exchange: Exchange) -> None:
        await exchange.head("400 Bad Request", "Content-Type: text/plain", "Transfer-Encoding: chunked")
        while True:
            await exchange.chunk(b"x" * 10_000)

    failure = await fails(endless, session)
    assert (failure.failure, failure.body) == (FailureClass.UNAVAILABLE, None)  # a proxy's, as no engine says that


async def test_an_answer_without_end_is_refused(session: aiohttp.ClientSession) -> None:
    """A pool cannot fill the router's memory with one answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.head("200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked")
        piece = b" " * 2**20
        for _ in range(ANSWER_BYTES // len(piece) + 1):
            await exchange.chunk(piece)

    failure = await fails(script, session, replace(REQUEST, stream=False))
    assert failure.failure is FailureClass.UNAVAILABLE
    assert "more than" in failure.detail


async def test_a_303_is_followed_with_get_until_the_answer_is_there(session: aiohttp.ClientSession) -> None:
    """A Modal web function that takes longer than 150 s redirects to its result, more than once."""

    async def script(exchange: Exchange) -> None:
        hop = {"/v1/chat/completions": "/result?hop=1", "/result?hop=1": "?hop=2"}.get(exchange.request.path)
        if hop is None:
            await exchange.answer("200 OK", GOOD)
        else:
            await exchange.answer("303 See Other", b"", "text/plain", f"Location: {hop}")

    async with scripted(script) as server:
        await backend(server.url, session).complete(replace(REQUEST, stream=False))
    assert [(seen.method, seen.path, seen.body) for seen in server.received] == [
        ("POST", "/v1/chat/completions", REQUEST.body),
        ("GET", "/result?hop=1", b""),
        ("GET", "/result?hop=2", b""),
    ]


@pytest.mark.parametrize("location", ["http://127.0.0.2:9/x", "https://elsewhere.example/", "http://[", "data:,x"])
async def test_a_redirect_to_another_host_gets_no_credentials(location: str, session: aiohttp.ClientSession) -> None:
    """Only the endpoint's own host is followed; anything else is an endpoint to put right."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("303 See Other", b"", "text/plain", f"Location: {location}")

    failure = await fails(script, session)
    assert failure.failure is FailureClass.MISCONFIGURED
    assert "endpoint" in failure.detail


async def test_a_bare_503_means_cold_only_where_the_pool_is_believed_asleep(session: aiohttp.ClientSession) -> None:
    """The same answer is a boot that began, or a server in trouble."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("503 Service Unavailable", b"no container", "text/plain")

    found = []
    async with scripted(script) as server:
        for asleep in (True, False):
            pool = HttpBackend(server.url, session, ScaledClock(), believed_asleep=lambda answer=asleep: answer)
            with pytest.raises(AttemptFailed) as caught:
                await pool.stream(REQUEST)
            found.append(caught.value.failure)
    assert found == [FailureClass.COLD, FailureClass.UNAVAILABLE]


async def test_tokens_are_counted_by_the_engine_or_not_at_all(session: aiohttp.ClientSession) -> None:
    """`/tokenize` gives the exact count; an error, other JSON or silence gives None."""
    answers = [
        ("200 OK", b'{"count":14,"max_model_len":512,"tokens":[1]}'),
        ("404 Not Found", b'{"detail":"Not Found"}'),
        ("200 OK", b'{"tokens":[]}'),
    ]

    async def script(exchange: Exchange) -> None:
        if not answers:
            await exchange.client_left()
        else:
            await exchange.answer(*answers.pop(0))

    async with scripted(script) as server:
        pool = backend(server.url, session, speedup=100)
        assert [await pool.count_tokens(b'{"messages":[]}', 10) for _ in range(4)] == [14, None, None, None]
    assert server.received[0].path == "/tokenize"


async def test_a_knock_says_whether_a_container_answers(session: aiohttp.ClientSession) -> None:
    """`knock` is True for a healthy server, False for a booting one and for none at all."""
    answers = ["200 OK", "503 Service Unavailable"]

    async def script(exchange: Exchange) -> None:
        await exchange.answer(answers.pop(0), b"", "text/plain")

    async with scripted(script) as server:
        pool = backend(server.url, session)
        assert [await pool.knock(10), await pool.knock(10)] == [True, False]
    assert await pool.knock(10) is False


async def test_failures_never_show_a_key_or_a_prompt(session: aiohttp.ClientSession) -> None:
    """Neither the message nor the chain of causes of a failure holds what was sent."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.close()

    async with scripted(script) as server:
        pool = HttpBackend(server.url, session, ScaledClock(), api_key="canary-key")
        with pytest.raises(AttemptFailed) as caught:
            await pool.complete(replace(REQUEST, body=b'{"prompt":"canary-prompt"}'))
    error = caught.value
    assert "canary" not in f"{error} {error!r} {error.__cause__!r}"
    assert error.__suppress_context__
