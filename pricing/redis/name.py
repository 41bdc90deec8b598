"""A replica's name, leased to one process at a time.

Holds, meters and the count of what runs elsewhere are by name: of two processes that share one, each would take the
other's attempts for its own.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Final

from pricing.errors import StoreUnavailable
from pricing.redis.client import RedisClient
from pricing.redis.keys import prefix_of
from pricing.redis.scripts import script

NAME_LEASE_S: Final = (
    5.0  # real seconds, by the server's clock: how long the name of a process that was killed is taken
)


class ReplicaName:
    """One process's right to a name. `keep` it more often than the lease ends."""

    def __init__(self, client: RedisClient, namespace: str, name: str) -> None:
        self._client = client
        self._keys = (prefix_of(namespace),)
        self._name = name
        self._token = secrets.token_hex(8)

    async def keep(self) -> None:
        """Take the name, or renew its lease. Raises StoreUnavailable while it is another process's."""
        left_ms = await self._lease(round(NAME_LEASE_S * 1000))
        if left_ms:
            raise StoreUnavailable(
                f"another process runs as replica {self._name}; give each a SLUICE_REPLICA of its own, or none (of one "
                f"that was killed the name is free again in {left_ms / 1000:.1f} s)"
            )

    async def aclose(self) -> None:
        """Give the name back, where the server can be reached."""
        with suppress(StoreUnavailable):
            await self._lease(0)

    async def _lease(self, lease_ms: int) -> int:
        return int(await self._client.evalsha(script("name"), self._keys, (self._name, self._token, lease_ms)))
