"""The data plane of one OpenAI-compatible server over HTTP.

Its timers are the router's: engines have none, and a status of 200 comes long before the first token. Drivers' errors
become failure classes here and never leave.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec

from pools.failures.classes import AttemptFailed
from pools.failures.classify import (
    DRIVER_ERRORS,
    from_error_frame,
    from_exception,
    from_response,
    garbled,
    given_up,
    misdirected,
    timed_out,
    unfinished,
)
from pools.wire.backend import Answer, UpstreamRequest
from pools.wire.frames import HttpFrames
from pools.wire.sse import is_utf8, peek
from pricing.clock import Clock

T = TypeVar("T")

ERROR_BODY_BYTES: Final = 64 * 1024
ANSWER_BYTES: Final = 64 * 2**20
METRICS_BYTES: Final = 4 * 2**20
# aiohttp writes a body of bytes in one piece and warns above this size; a file-like one is written in pieces.
ONE_PIECE_BYTES: Final = 2**20
# Servers under uvicorn, vLLM's too, close a connection that was idle for 5 s; letting go of it first avoids sending a
# request into a connection that is just being closed.
KEEP_ALIVE_S: Final = 4.0
# A Modal web function answers 303 each 150 s; the deadline ends the wait, this only bounds a loop without pauses.
REDIRECTS_AT_MOST: Final = 50


class _Count(msgspec.Struct):
    count: int


class _Text(msgspec.Struct):
    prompt: str


class _Version(msgspec.Struct):
    version: str


def make_session() -> aiohttp.ClientSession:
    """A session for every pool of a process: connections kept, no cookies, bodies as they were sent.

    It sets no limit on connections, since the router bounds what runs at a pool, and no time limit, since each request
    has its own. aiohttp sets TCP_NODELAY on every connection.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    )


class HttpBackend:
    """One pool's server. `url` is its root, with or without `/v1`; `headers` are sent with every request.

    `believed_asleep` tells whether the router believes that the pool has no ready container: a bare 503 means "no
    container yet" then, and a broken proxy otherwise.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        api_key: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        believed_asleep: Callable[[], bool] = lambda: False,
    ) -> None:
        self.unreached: str | None = None
        self._root = url.rstrip("/").removesuffix("/v1")
        self._session = session
        self._clock = clock
        self._believed_asleep = believed_asleep
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._headers.update(headers)

    async def complete(self, request: UpstreamRequest) -> Answer:
        """Send a request that is not streamed. Raises AttemptFailed."""
        limit_s, by_client = _first_limit(request)
        try:
            async with self._clock.timeout(limit_s):
                response = await self._send(request)
                try:
                    body = await self._good_body(response)
                finally:
                    response.close()  # a no-op where the answer was read to its end and the connection kept
        except TimeoutError:
            raise timed_out("answer", limit_s, by_client_deadline=by_client) from None
        answer = Answer(response.status, response.content_type, body)
        return _judged(answer) if request.choices else _judged_media(answer)

    async def stream(self, request: UpstreamRequest) -> HttpFrames:
        """Send a streamed request and return once the first good data frame is there. Raises AttemptFailed."""
        started = asyncio.get_running_loop().time()
        limit_s, by_client = _first_limit(request)
        try:
            async with self._clock.timeout(limit_s):
                return await self._first_frame(request, started)
        except TimeoutError:
            raise timed_out("first token", limit_s, by_client_deadline=by_client) from None

    async def _first_frame(self, request: UpstreamRequest, started: float) -> HttpFrames:
        response = await self._send(request)
        good = False
        try:
            if response.status >= 300 or response.content_type != "text/event-stream":
                _judged(Answer(response.status, response.content_type, await self._good_body(response)))
                raise garbled(f"answered a streamed request with {response.content_type}")
            frames = HttpFrames(response, request, started, self._clock.speedup)
            await frames.begin()
            good = True
            return frames
        finally:
            if not good:
                response.close()

    async def count_tokens(self, body: bytes, timeout_s: float) -> int | None:
        """Exact prompt tokens by the engine's `/tokenize`; None where it cannot tell. Only for pools awake."""
        found = await self._answer_of("/tokenize", body, _Count, timeout_s)
        return None if found is None else found.count

    async def text_of(self, model: str, token_ids: Sequence[int], timeout_s: float) -> str | None:
        """What token ids read, by the engine's `/detokenize`; None where it cannot tell. Only for pools awake."""
        body = msgspec.json.encode({"model": model, "tokens": token_ids})
        found = await self._answer_of("/detokenize", body, _Text, timeout_s)
        return None if found is None else found.prompt

    async def engine_version(self, timeout_s: float) -> str | None:
        """What the engine says at `/version`; None where it has no such page. Only for pools awake."""
        found = await self._answer_of("/version", b"", _Version, timeout_s, "GET")
        return None if found is None else found.version

    async def metrics(self, timeout_s: float) -> str | None:
        """The engine's page of metrics; None where it has none, or does not answer in time. Only for pools awake."""
        try:
            async with self._clock.timeout(timeout_s):
                response = await self._send(_small_request("/metrics", b"", timeout_s), "GET")
                try:
                    if response.status != 200:
                        return None
                    return (await _read(response, METRICS_BYTES, or_cut=False)).decode()
                finally:
                    response.close()
        except (AttemptFailed, TimeoutError, UnicodeDecodeError, *DRIVER_ERRORS):
            return None

    async def _answer_of(
        self, path: str, body: bytes, type: type[T], timeout_s: float, method: str = "POST"
    ) -> T | None:
        """A small question to the engine; None where it does not answer it in time."""
        try:
            async with self._clock.timeout(timeout_s):
                response = await self._send(_small_request(path, body, timeout_s), method)
                try:
                    return msgspec.json.decode(await self._good_body(response), type=type)
                finally:
                    response.close()
        except (AttemptFailed, TimeoutError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    async def knock(self, timeout_s: float) -> bool:
        """Ask `/health`: True once a container answers. On a sleeping pool this starts a boot, and is meant to.

        `unreached` then says why nobody was there to be asked, as behind a wrong address; None where somebody was. Time
        that ran out tells neither, and leaves it as it was.
        """
        try:
            async with self._clock.timeout(timeout_s):
                response = await self._send(_small_request("/health", b"", timeout_s), method="GET")
                response.close()
                self.unreached = None
                return response.status < 300
        except AttemptFailed as failure:
            self.unreached = failure.detail
            return False
        except TimeoutError:
            return False

    async def _send(self, request: UpstreamRequest, method: str = "POST") -> aiohttp.ClientResponse:
        """Send, and follow the 303 by which a Modal web function asks to wait, as a GET on the same host."""
        headers = {**self._headers, **dict(request.headers)}
        if request.request_id:
            headers["X-Request-Id"] = request.request_id
        timeout = _connect_within(request.connect_timeout_s / self._clock.speedup)
        body = request.body if len(request.body) < ONE_PIECE_BYTES else io.BytesIO(request.body)
        url = self._root + request.path
        try:
            response = await self._session.request(
                method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
            )
            for _ in range(REDIRECTS_AT_MOST):
                if response.status != 303:
                    break
                target = _redirect(response)
                response.release()
                response = await self._session.get(target, headers=headers, timeout=timeout, allow_redirects=False)
        except DRIVER_ERRORS as error:
            # Without its cause: a driver's error holds the request's headers, and with them the key.
            raise from_exception(error) from None
        return response

    async def _good_body(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of a 2xx answer. Raises AttemptFailed for another status."""
        try:
            if response.status < 300:
                return await _read(response, ANSWER_BYTES, or_cut=False)
            body = await _read(response, ERROR_BODY_BYTES, or_cut=True)
        except DRIVER_ERRORS as error:
            raise from_exception(error) from None
        raise from_response(response.status, response.headers, body, believed_asleep=self._believed_asleep())


@lru_cache(maxsize=256)
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    """Kept, since a policy has few of them and aiohttp takes a microsecond to make one."""
    return aiohttp.ClientTimeout(total=None, connect=seconds)


def _first_limit(request: UpstreamRequest) -> tuple[float, bool]:
    """Seconds until the first token, or the whole answer, must be there, and whether the client set them."""
    if request.total_timeout_s < request.first_token_timeout_s:
        return request.total_timeout_s, request.total_by_client
    return request.first_token_timeout_s, request.first_token_by_client


def _small_request(path: str, body: bytes, timeout_s: float) -> UpstreamRequest:
    return UpstreamRequest(
        path=path,
        body=body,
        request_id="",
        stream=False,
        connect_timeout_s=timeout_s,
        first_token_timeout_s=timeout_s,
        stall_timeout_s=timeout_s,
        total_timeout_s=timeout_s,
    )


def _redirect(response: aiohttp.ClientResponse) -> str:
    """Where a 303 leads. Raises AttemptFailed for another host, which must not get our credentials."""
    here = str(response.url)
    try:
        target = urljoin(here, response.headers.get("Location", ""))
        same_host = urlsplit(target)[:2] == urlsplit(here)[:2]
    except ValueError:  # not a URL
        same_host = False
    if not same_host:
        response.close()
        raise misdirected(response.status)
    return target


async def _read(response: aiohttp.ClientResponse, limit: int, *, or_cut: bool) -> bytes:
    """The body up to `limit` bytes; what is beyond is left unread, or refused."""
    parts = []
    size = 0
    while size < limit and (part := await response.content.readany()):
        parts.append(part)
        size += len(part)
    if size >= limit and not or_cut:
        raise garbled(f"sent an answer of more than {limit} bytes")
    return b"".join(parts)[:limit]


def _judged(answer: Answer) -> Answer:
    """An answer is good when it holds no error and every choice has its finish reason. Raises AttemptFailed."""
    if not is_utf8(answer.body):
        raise garbled("sent an answer that is not UTF-8")
    seen = peek(answer.body)
    if seen.error is not None:
        raise from_error_frame(answer.body)
    if seen.choices_empty or len(seen.finish_reasons) < len(seen.seen):
        raise unfinished()
    if (reason := seen.given_up) is not None:
        raise given_up(reason)
    return answer


def _judged_media(answer: Answer) -> Answer:
    """Pictures or a clip: good unless it is an error object, or no JSON where it says so. Raises AttemptFailed."""
    if answer.content_type == "application/json" and peek(answer.body).error is not None:
        raise from_error_frame(answer.body)
    return answer
