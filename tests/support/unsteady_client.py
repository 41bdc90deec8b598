"""A Redis client whose connection breaks when a test says so, before a script was sent or before its answer came."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from pricing.errors import StoreUnavailable
from pricing.redis.client import RedisClient
from pricing.redis.scripts import Script


class Cut(Enum):
    UNSENT = "unsent"
    UNHEARD = "unheard"


class UnsteadyClient(RedisClient):
    """`cut` is what happens to the next script; either way its caller hears the same."""

    cut: Cut | None = None

    async def run(self, script: Script, parts: Iterable[bytes]) -> Any:
        cut, self.cut = self.cut, None
        if cut is not Cut.UNSENT:
            reply = await super().run(script, parts)
        if cut is not None:
            raise StoreUnavailable("the connection broke")
        return reply
