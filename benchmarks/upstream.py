"""A server that stands for a pool and answers at once, so that what is measured is the gateway before it.

    python upstream.py --port PORT [--pace-ms 10] [--chunks 50]

Serves on loopback until it is killed. POST gets one chat completion; with `"stream": true`
in the body, one chunk with a token every `--pace-ms`, then a finish frame, a usage frame and `[DONE]`. GET gets 200.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from typing import Final, cast

import httptools
import uvloop

STREAMED: Final = re.compile(rb'"stream"\s*:\s*true')
_HEAD: Final = {"id": "chatcmpl-bench", "created": 1_767_225_600, "model": "bench"}
_USAGE: Final = {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250}


def _answer() -> bytes:
    message = {"role": "assistant", "content": "word " * 50}
    body = _HEAD | {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
    encoded = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(encoded) + encoded


def _frame(**fields: object) -> bytes:
    data = b"data: " + json.dumps(_HEAD | {"object": "chat.completion.chunk"} | fields).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def _choice(delta: dict[str, str], finish: str | None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish}]


ANSWER: Final = _answer()
STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN: Final = _frame(choices=_choice({"content": "word "}, None))
DONE: Final = b"e\r\ndata: [DONE]\n\n\r\n"
STREAM_TAIL: Final = _frame(choices=_choice({}, "stop")) + _frame(choices=[], usage=_USAGE) + DONE + b"0\r\n\r\n"
EMPTY: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Connection(asyncio.Protocol):
    """One client. Requests of a connection are answered one after the other."""

    def __init__(self, pace_s: float, chunks: int) -> None:
        self._pace_s = pace_s
        self._chunks = chunks
        self._parser = httptools.HttpRequestParser(self)
        self._streamed = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._streamed = False

    def on_body(self, body: bytes) -> None:
        self._streamed = self._streamed or STREAMED.search(body) is not None

    def on_message_complete(self) -> None:
        if self._parser.get_method() != b"POST":
            self._transport.write(EMPTY)
        elif self._streamed:
            self._transport.write(STREAM_HEAD)
            loop = asyncio.get_running_loop()
            self._token(loop, loop.time(), 0)
        else:
            self._transport.write(ANSWER)

    def _token(self, loop: asyncio.AbstractEventLoop, begun: float, sent: int) -> None:
        """Write a token and plan the next by the start, so that delays do not add up."""
        if self._transport.is_closing():
            return
        if sent == self._chunks:
            self._transport.write(STREAM_TAIL)
            return
        self._transport.write(TOKEN)
        loop.call_at(begun + (sent + 1) * self._pace_s, self._token, loop, begun, sent + 1)


async def serve(port: int, pace_s: float, chunks: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(pace_s, chunks), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--pace-ms", type=float, default=10.0)
    options.add_argument("--chunks", type=int, default=50)
    given = options.parse_args()
    uvloop.run(serve(given.port, given.pace_ms / 1000, given.chunks))


if __name__ == "__main__":
    main()
