"""Answers of a real server that are not whole, not HTTP or not text: each is a failure of its class."""

from __future__ import annotations

import aiohttp
import pytest

from pools.failures.classes import AttemptFailed, FailureClass
from support.backends import GOOD, REQUEST, backend, drain, fails, streaming
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, frame, scripted, text_frame
from support.values import replace


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
