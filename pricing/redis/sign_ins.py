"""Who has signed in to the dashboard, at any replica: sessions lie in Redis and end there by themselves.

Neither a session's token nor a key is in Redis, only hashes of them, so that nobody who reads it, or a copy of it, can
use what is there. What a key may see is asked of the policy each time, never kept.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from pricing.redis.client import RedisClient
from pricing.redis.keys import prefix_of
from pricing.redis.scripts import script

SESSIONS_OF_A_KEY: Final = 50  # then its oldest ends: whoever has a key cannot fill Redis with sessions


class SignedIn(NamedTuple):
    """`key` is the hash of the API key that a session stands for, `left_s` for how long it still does."""

    key: str
    left_s: float


class SharedSignIns:
    """Sessions are named by the hash of their token. Every method raises StoreUnavailable."""

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._client = client
        self._prefix = prefix_of(namespace)

    async def begin(self, session: str, key: str, lasts_s: float) -> None:
        args = (session, key, round(lasts_s * 1000), SESSIONS_OF_A_KEY)
        await self._client.evalsha(script("sign_in"), (self._prefix,), args)

    async def find(self, session: str) -> SignedIn | None:
        """None for a session that has ended, or never began."""
        name = self._name(session)
        key, left_ms = await asyncio.gather(self._client.command("GET", name), self._client.command("PTTL", name))
        return None if key is None or left_ms <= 0 else SignedIn(key.decode(), left_ms / 1000)

    async def end(self, session: str) -> None:
        await self._client.command("DEL", self._name(session))

    def _name(self, session: str) -> bytes:
        return self._prefix + b"signed_in:" + session.encode()
