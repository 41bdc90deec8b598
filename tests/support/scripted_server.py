"""A real TCP server that answers each HTTP request with bytes that a test writes one by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Exchange:
    """The server's side of one request: what came, and how to answer, byte by byte."""

    request: Received
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: str, *headers: str) -> None:
        await self.send("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode())

    async def answer(self, status: str, body: bytes, content_type: str = "application/json", *headers: str) -> None:
        """A whole answer with its length."""
        await self.head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers)
        await self.send(body)

    async def start_stream(self) -> None:
        await self.head("200 OK", "Content-Type: text/event-stream; charset=utf-8", "Transfer-Encoding: chunked")

    async def chunk(self, data: bytes) -> None:
        """One chunk of the transfer encoding."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def client_left(self) -> None:
        """Returns when the client has closed its end."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()

    def reset(self) -> None:
        """Close with a TCP reset, as a killed process or a load balancer does."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Plays `script` for every request. `connections` counts TCP connections, `received` keeps the requests."""

    script: Script
    url: str = ""
    connections: int = 0
    received: list[Received] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.received.append(request)
                await self.script(Exchange(request, writer, reader))
        except ConnectionError:
            pass  # the client left in the midst of an answer
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedServer]:
    """A server on a free port of the loopback interface."""
    served = ScriptedServer(script)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(served.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    served.url = f"http://{host}:{port}"
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)


def frame(**fields: object) -> bytes:
    """One SSE frame with a JSON object."""
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def text_frame(text: str, finish: str | None = None, index: int = 0) -> bytes:
    """A chunk of a chat stream."""
    return frame(choices=[{"index": index, "delta": {"content": text}, "finish_reason": finish}])


ROLE = frame(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
DONE = b"data: [DONE]\n\n"
ENGINE_DIED = frame(error={"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500})
