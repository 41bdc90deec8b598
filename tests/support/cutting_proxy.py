"""A TCP proxy that cuts streams after a number of frames: a break at an exact place, for which no server has to die."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

FRAME_END = b"\n\n"  # neither headers, whose lines end with CR LF, nor JSON have it


@dataclass
class CuttingProxy:
    """Passes bytes both ways. While `cut_after` is a number, each answer's connection ends right behind that frame."""

    host: str
    port: int
    url: str = ""
    cut_after: int | None = None
    cuts: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests go up as they come, answers come down until the cut."""
        above_reader, above = await asyncio.open_connection(self.host, self.port)
        answer = bytearray()
        down = asyncio.create_task(self._down(above_reader, writer, answer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                answer.clear()
                above.write(data)
        above.close()
        await asyncio.gather(down, return_exceptions=True)

    async def _down(self, above: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytearray) -> None:
        while data := await above.read(65536):
            sent = len(answer)
            answer += data
            end = self._cut_at(answer)
            writer.write(answer[sent:end])
            if end is not None:
                self.cuts += 1
                break
        writer.close()

    def _cut_at(self, answer: bytearray) -> int | None:
        """Where the last frame that may pass ends; None while all may pass."""
        end = 0
        for _ in range(self.cut_after or 0):
            found = answer.find(FRAME_END, end)
            if found < 0:
                return None
            end = found + len(FRAME_END)
        return end or None


@contextlib.asynccontextmanager
async def cutting(url: str) -> AsyncIterator[CuttingProxy]:
    """A proxy on a free port of the loopback interface, before the server at `url`."""
    place = urlsplit(url)
    proxy = CuttingProxy(str(place.hostname), int(place.port or 80))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
