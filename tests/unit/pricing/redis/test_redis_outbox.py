"""What a replica has to say while Redis is away is said later, in its order, and in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.outbox import AT_ONCE, Outbox


class Server:
    """Takes batches, or is away; `deaf` takes one and loses the answer."""

    def __init__(self) -> None:
        self.away = self.deaf = False
        self.heard: list[Sequence[int]] = []

    async def send(self, batch: Sequence[int]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("away")
        self.heard.append(batch)
        if self.deaf:
            self.deaf = False
            raise StoreUnavailable("the answer was lost")


def outbox(server: Server) -> Outbox[int]:
    """Before a client that is not connected: nothing is sent before a flush."""
    return Outbox(RedisClient(RedisAddress.from_url("redis://127.0.0.1:1")), server.send)


async def test_a_long_outage_is_told_in_pieces_and_in_order() -> None:
    """No step has more than a bounded number of words, however many wait."""
    server = Server()
    box = outbox(server)
    server.away = True
    count = 2 * AT_ONCE + 7
    for word in range(count):
        box.put(word)
    with pytest.raises(StoreUnavailable):
        await box.flush()
    server.away = False
    await asyncio.gather(box.flush(), box.flush())
    assert [len(batch) for batch in server.heard] == [AT_ONCE, AT_ONCE, 7]
    assert [word for batch in server.heard for word in batch] == list(range(count))


async def test_what_was_sent_without_an_answer_is_sent_again() -> None:
    """It may arrive twice; nothing behind it arrives before it."""
    server = Server()
    box = outbox(server)
    server.deaf = True
    box.put(1)
    with pytest.raises(StoreUnavailable):
        await box.flush()
    box.put(2)
    await box.aclose()
    assert server.heard == [(1,), (1, 2)]
