"""What a replica tells without waiting: sent at once where the server can be reached, else kept, in its order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Generic, TypeVar

from pricing.errors import StoreUnavailable
from pricing.redis.client import RedisClient

AT_ONCE: Final = 200  # what a long outage has left to say comes in steps that keep nobody else waiting
T = TypeVar("T")


class Outbox(Generic[T]):
    """`send` takes a batch, `AT_ONCE` at most, and raises StoreUnavailable; what it was given is then sent again, so
    that it may arrive twice. Belongs to one event loop.
    """

    def __init__(self, client: RedisClient, send: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        self._client = client
        self._send = send
        self._waiting: deque[T] = deque()
        self._in_order = asyncio.Lock()
        self._sending: asyncio.Task[None] | None = None

    def put(self, word: T) -> None:
        """Say something; without a connection it waits for the next `flush`."""
        self._waiting.append(word)
        if self._client.connected and (self._sending is None or self._sending.done()):
            self._sending = asyncio.get_running_loop().create_task(self._send_now())

    async def flush(self) -> None:
        """Return once everything is sent. Raises StoreUnavailable; what is not sent is kept."""
        async with self._in_order:
            while self._waiting:
                batch = tuple(islice(self._waiting, AT_ONCE))
                await self._send(batch)
                for _ in batch:
                    self._waiting.popleft()

    async def aclose(self) -> None:
        """Send what waits, where that is possible."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._send_now()

    async def _send_now(self) -> None:
        with suppress(StoreUnavailable):  # it waits for the next flush
            await self.flush()
