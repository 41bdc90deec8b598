"""What ended lately, told among replicas for those who watch: a short stream in Redis, written while somebody does.

It is a look at what happens, not a record of it. Whoever wants every request reads the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from pricing.ledger.recent import Recent
from pricing.redis.client import RedisClient
from pricing.redis.keys import prefix_of
from pricing.redis.scripts import script

ENTRIES_AT_ONCE: Final = 32  # that one turn reads; a replica writes one a turn

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(list[Recent])


class SharedFeed:
    """One replica's part in it. Give it a client whose replies may be large. `watched`: somebody watches, at whichever
    replica; as of the last turn.
    """

    def __init__(self, client: RedisClient, namespace: str, replica: str) -> None:
        self._client = client
        self._keys = (prefix_of(namespace),)
        self._replica = replica
        self._last = b""  # the id of the newest entry that we have read; empty: we have not been reading
        self.watched = False

    async def turn(self, ended: Sequence[Recent], *, watching: bool) -> list[Recent]:
        """Tell the others what ended here, if somebody watches; where that is here, what the others have told since the
        last turn, oldest first. Raises StoreUnavailable and RedisReplyError; nothing is told twice then.
        """
        await self._client.connect()
        words = _encoder.encode(ended) if ended else b""
        args = (self._replica, self._last, int(watching), words, ENTRIES_AT_ONCE)
        watched, self._last, told = await self._client.evalsha(script("feed"), self._keys, args)
        self.watched = watched == 1
        return [one for entry in told for one in _known(entry)]


def _known(entry: bytes) -> list[Recent]:
    """A replica of another version may tell what this one cannot read."""
    try:
        return _decoder.decode(entry)
    except msgspec.DecodeError:
        return []
