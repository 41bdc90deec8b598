"""Whether Redis has what its ledger says it had: an id that is lost with everything else tells an emptied server.

The script that opens holds looks as well, so that nobody spends between a loss and the look that finds it.
"""

from __future__ import annotations

from typing import Final

from pricing.errors import StoreUnavailable
from pricing.redis.client import RedisClient

LOST: Final = (
    "Redis has lost its budgets, which would now begin at zero; give them back with "
    "`sluice ledger restore-budgets --write`"
)
ANOTHERS: Final = (
    "Redis has the budgets of another ledger; check SLUICE_REDIS_URL, SLUICE_REDIS_NAMESPACE and SLUICE_LEDGER"
)


async def installation_in(client: RedisClient, prefix: bytes) -> str | None:
    """The id that Redis has; None where it has none. Raises StoreUnavailable."""
    found: bytes | None = await client.command("GET", prefix + b"installation")
    return None if found is None else found.decode()


def not_whole(found: str | None) -> StoreUnavailable:
    """Why a Redis with an id that is not ours, or with none, cannot be used."""
    return StoreUnavailable(ANOTHERS if found else LOST)
