"""The HTTP backend against a real server: answers, errors, redirects, connections."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from pools.backend import FrameKind
from pools.backend_http import ANSWER_BYTES, HttpBackend, make_session
from pools.failures import AttemptFailed, FailureClass
from pricing.clock import ScaledClock
from support.backends import REQUEST, backend, drain, fails, streaming
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, frame, scripted, text_frame
from support.values import replace


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    made = make_session()
    yield made
    await made.close()


GOOD = json.dumps({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()


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


async def test_an_error_as_first_frame_is_known_before_anything_is_handed_out(session: aiohttp.ClientSession) -> None:
    """`stream` itself raises for an error inside a 200, with the class of the error's code."""
    busy = frame(error={"message": "The engine is currently busy", "type": "Service Unavailable", "code": 503})
    async with scripted(streaming(b": keep-alive\n\n", busy, DONE)) as server:
        with pytest.raises(AttemptFailed) as caught:
            await backend(server.url, session).stream(REQUEST)
    assert (caught.value.failure, caught.value.status) == (FailureClass.OVERLOADED, 503)


async def test_an_error_amid_a_stream_comes_after_the_frames_before_it(session: aiohttp.ClientSession) -> None:
    """Frames that arrived with the error are handed out first; the `[DONE]` after it is not."""
    async with scripted(streaming(ROLE + text_frame("a") + ENGINE_DIED + DONE)) as server:
        stream = await backend(server.url, session).stream(REQUEST)
        seen: list[bytes] = []
        with pytest.raises(AttemptFailed) as caught:
            await drain(stream, seen)
    assert seen == [ROLE, text_frame("a")]
    assert (caught.value.failure, caught.value.engine_died) == (FailureClass.UNAVAILABLE, True)


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ((ROLE, text_frame("a"), DONE), True),  # [DONE] proves nothing
        ((ROLE, text_frame("a")), True),
        ((ROLE, text_frame("a")), False),  # cut without the chunked terminator
        ((ROLE, text_frame("a")[:20]), False),
        ((ROLE, b"data: {not json\n\n"), True),
        ((b"data: [1]\n\n",), True),
        ((), True),
        ((), False),
        ((b"\x00\xff\xfe garbage \r\r\n",), True),
        ((ROLE, text_frame("a", "stop", index=0), text_frame("b", index=1)), True),  # one of two choices ended
    ],
)
async def test_an_answer_that_is_not_whole_is_unavailable(
    pieces: tuple[bytes, ...], end: bool, session: aiohttp.ClientSession
) -> None:
    """Without a finish reason of every choice, or with bytes that are no chunk, the attempt failed."""
    failure = await fails(streaming(*pieces, end=end), session)
    assert failure.failure is FailureClass.UNAVAILABLE


@pytest.mark.parametrize("tail", [(), (b"data: [DO",), (DONE[:-2],), (b": bye\n\n",), (ENGINE_DIED, DONE)])
@pytest.mark.parametrize("end", [True, False])
async def test_an_answer_is_complete_once_its_finish_was_seen(
    tail: tuple[bytes, ...], end: bool, session: aiohttp.ClientSession
) -> None:
    """After the finish reason a cut or an engine's death loses nothing; a `[DONE]` that only lacks its blank line is
    handed out whole.
    """
    async with scripted(streaming(ROLE, text_frame("a", "stop"), *tail, end=end)) as server:
        stream = await backend(server.url, session).stream(REQUEST)
        frames = [seen.raw async for seen in stream]
        await stream.aclose()
    expected = [ROLE, text_frame("a", "stop")]
    assert frames[:2] == expected
    assert frames[2:] in ([], [DONE])


@pytest.mark.parametrize("tail", [(), (DONE,), (ENGINE_DIED, DONE)])
async def test_a_choice_that_never_began_is_missing(tail: tuple[bytes, ...], session: aiohttp.ClientSession) -> None:
    """Of two answers that were asked for, one that is complete is not enough, however the stream ends."""
    request = replace(REQUEST, choices=2)
    pieces = (text_frame("a", "stop", index=0), *tail)
    assert (await fails(streaming(*pieces), session, request)).failure is FailureClass.UNAVAILABLE


@pytest.mark.parametrize("reason", ["abort", "error"])
async def test_an_answer_that_the_engine_gave_up_is_none(reason: str, session: aiohttp.ClientSession) -> None:
    """Finish reasons that say so make status 200 and `[DONE]` a failure, and no death; the frame is not handed out."""
    async with scripted(streaming(ROLE, text_frame("a"), text_frame("b", reason), DONE)) as server:
        seen: list[bytes] = []
        with pytest.raises(AttemptFailed) as streamed:
            await drain(await backend(server.url, session).stream(REQUEST), seen)
    assert seen == [ROLE, text_frame("a")]
    body = GOOD.replace(b"stop", reason.encode())
    whole = await fails(lambda each: each.answer("200 OK", body), session, replace(REQUEST, stream=False))
    for failure in (streamed.value, whole):
        assert (failure.failure, failure.engine_died) == (FailureClass.UNAVAILABLE, False)


async def test_a_reset_amid_a_stream_is_an_engine_that_died(session: aiohttp.ClientSession) -> None:
    """A TCP reset under a running request counts as unavailable, and as a strike."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(ROLE)
        exchange.reset()

    failure = await fails(script, session)
    assert (failure.failure, failure.engine_died) == (FailureClass.UNAVAILABLE, True)


async def test_an_empty_reply_is_unavailable(session: aiohttp.ClientSession) -> None:
    """A server that closes without a byte is an engine that died under the request."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.close()

    failure = await fails(script, session, replace(REQUEST, stream=False))
    assert (failure.failure, failure.engine_died) == (FailureClass.UNAVAILABLE, True)


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ndata",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8bxx",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_bytes_that_are_no_http_are_unavailable(
    garbage: bytes, stream: bool, session: aiohttp.ClientSession
) -> None:
    """Whatever a broken server sends, the attempt ends in a failure class and not in a parser's error."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(garbage)
        exchange.writer.close()

    failure = await fails(script, session, replace(REQUEST, stream=stream))
    assert failure.failure is FailureClass.UNAVAILABLE


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


@pytest.mark.parametrize("raw", [b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n', b": \xff\n" + ROLE])
async def test_a_frame_that_no_client_can_decode_is_not_handed_out(raw: bytes, session: aiohttp.ClientSession) -> None:
    """Wherever in the frame; what came before it is."""
    async with scripted(streaming(ROLE, text_frame("grün"), raw, text_frame("", "stop"), DONE)) as server:
        seen: list[bytes] = []
        with pytest.raises(AttemptFailed) as caught:
            await drain(await backend(server.url, session).stream(REQUEST), seen)
    assert seen == [ROLE, text_frame("grün")]
    assert caught.value.failure is FailureClass.UNAVAILABLE


async def test_a_whole_answer_that_no_client_can_decode_is_none(session: aiohttp.ClientSession) -> None:
    """Also where the bytes stand in a field that nobody looks at."""
    body = GOOD[:-1] + b',"x":"\xff"}'
    failure = await fails(lambda each: each.answer("200 OK", body), session, replace(REQUEST, stream=False))
    assert (failure.failure, failure.detail) == (FailureClass.UNAVAILABLE, "sent an answer that is not UTF-8")


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"x","code":500}}',
        b'{"object":"error","message":"x","code":500}',
        b'{"choices":[]}',
        b'{"choices":[{"index":0,"message":{"content":"half"},"finish_reason":null}]}',
        b"<html>oops</html>",
        b"",
        b"[" * 100_000,
    ],
)
async def test_a_whole_answer_must_be_one(body: bytes, session: aiohttp.ClientSession) -> None:
    """A 200 with an error in it, without a finish reason, or without JSON is a failure."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", body)

    failure = await fails(script, session, replace(REQUEST, stream=False))
    assert failure.failure is FailureClass.UNAVAILABLE
    failure = await fails(script, session)  # nor does it serve as the answer to a streamed request
    assert failure.failure is FailureClass.UNAVAILABLE


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
