"""Whether Redis has what its ledger says it had: an id that is lost with everything else tells an emptied server."""

from __future__ import annotations

from pricing.errors import StoreUnavailable
from pricing.redis.client import RedisClient


async def must_be_whole(client: RedisClient, prefix: bytes, expected: str | None) -> None:
    """Raises StoreUnavailable where another id is there, or none. `expected` None: the ledger has not said any yet."""
    if expected is None:
        return
    found = await client.command("GET", prefix + b"installation")
    if found is None:
        raise StoreUnavailable(
            "Redis has lost its budgets, which would now begin at zero; give them back with "
            "`sluice ledger restore-budgets --write`"
        )
    if found.decode() != expected:
        raise StoreUnavailable(
            "Redis has the budgets of another ledger; check SLUICE_REDIS_URL, SLUICE_REDIS_NAMESPACE and SLUICE_LEDGER"
        )
