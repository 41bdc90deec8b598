"""A wire between one replica and Redis that can be cut, or go silent, at any instant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Wire:
    """Passes bytes both ways. What was on its way when it is cut is lost, and nobody knows how far it came."""

    port_above: int
    port: int = 0
    _pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=set)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the replica."""
        try:
            above_reader, above = await asyncio.open_connection("127.0.0.1", self.port_above)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, above)
        self._pairs.add(pair)
        await asyncio.gather(self._pass(reader, above), self._pass(above_reader, writer), return_exceptions=True)
        self._pairs.discard(pair)
        for end in pair:
            end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
        writer.transport.abort()

    def cut(self) -> None:
        """Every connection ends now, in the middle of whatever it carried."""
        for pair in self._pairs:
            for end in pair:
                end.transport.abort()

    async def silence(self, seconds: float) -> None:
        """Nothing comes through for a while; then all of it does."""
        self._flows.clear()
        await asyncio.sleep(seconds)
        self._flows.set()


@contextlib.asynccontextmanager
async def wire(port_above: int) -> AsyncIterator[Wire]:
    """A wire that listens on a free port of the loopback interface."""
    made = Wire(port_above)
    made._flows.set()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
