"""A process that drains and does nothing else, to be killed. It prints a line once it drains.

`python -m support.draining REDIS_URL POSTGRES_URL NAMESPACE CONSUMER`
"""

from __future__ import annotations

import asyncio
import sys

from pricing.clock import SystemClock
from pricing.ledger.place import PostgresUrl
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.drainer import Drainer


async def main(redis_url: str, postgres_url: str, namespace: str, consumer: str) -> None:
    client = RedisClient(RedisAddress.from_url(redis_url), timeout_s=10)
    await client.connect()
    drainer = Drainer(
        client,
        PostgresUrl(postgres_url),
        SystemClock(),
        consumer=consumer,
        namespace=namespace,
        batch=7,
        claim_after_s=0.2,
    )
    await drainer.step()
    print("drains", flush=True)
    await drainer.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
