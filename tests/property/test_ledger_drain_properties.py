"""Whatever happens to drainers, in whatever order: each row once, and sums by hour that are the sums of the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.errors import StoreUnavailable
from pricing.ledger.place import PostgresUrl
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.scripts import Script
from support.money import request, row
from support.shared_ledger import SharedLedger, empty_database, shared_ledger, sum_problems

HOUR = 3_600_000_000
NAMES = ("a", "b")
STEPS = st.one_of(
    st.tuples(st.just("settle"), st.integers(0, 9)),  # the same number again is the same request again
    st.tuples(st.just("nonsense"), st.just(0)),
    st.tuples(st.just("drain"), st.sampled_from(NAMES)),
    st.tuples(st.just("crash"), st.sampled_from(NAMES)),  # between commit and acknowledgement
    st.tuples(st.just("replace"), st.sampled_from(NAMES)),  # by a process of another name
)


class Forgetful(RedisClient):
    """Dies before it acknowledges, when told so."""

    dies = False

    async def evalsha(self, script: Script, keys: Sequence[Word], args: Sequence[Word]) -> Any:
        if self.dies and script.name == "ack":
            raise StoreUnavailable("died")
        return await super().evalsha(script, keys, args)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=25))
def test_rows_and_sums_are_exact_after_any_sequence(
    redis_url: str, postgres_url: str, steps: list[tuple[str, Any]]
) -> None:
    """Duplicates, crashes after a commit, drainers that come and go, poison: nothing is lost and nothing doubled."""
    asyncio.run(live_through(redis_url, postgres_url, steps))


async def live_through(redis_url: str, postgres_url: str, steps: list[tuple[str, Any]]) -> None:
    async with shared_ledger(redis_url, postgres_url) as ledger:
        empty_database(PostgresUrl(postgres_url))
        client = Forgetful(RedisAddress.from_url(redis_url), timeout_s=10)
        await client.connect()
        ledger.client, plain = client, ledger.client
        drainers = {name: ledger.drainer(name, batch=3, claim_after_s=0) for name in NAMES}
        settled, nonsense = set(), 0
        for number, (what, which) in enumerate(steps):
            if what == "settle":
                settled.add(which)
                await settle(ledger, which)
            elif what == "nonsense":
                nonsense += 1
                await ledger.add_fields([b"k", b"nonsense"])
            elif what == "replace":
                drainers[which] = ledger.drainer(f"{which}-{number}", batch=3, claim_after_s=0)
            else:
                client.dies = what == "crash"
                with suppress(StoreUnavailable):
                    await drainers[which].step()
                client.dies = False
        await ledger.drain(ledger.drainer("last", claim_after_s=0))
        assert ledger.rows() == [(f"r{n}:{attempt}:attempt", n) for n in sorted(settled) for attempt in (1, 2)]
        assert sum_problems(ledger.url) == []
        backlog = await ledger.stream.backlog()
        assert (backlog.entries, backlog.bytes, backlog.poison) == (0, 0, nonsense)
        await plain.aclose()


async def settle(ledger: SharedLedger, number: int) -> None:
    at_us = number * HOUR // 3
    rows = [row(f"r{number}:{attempt}", number, at_us=at_us) for attempt in (1, 2)]
    await ledger.add(*rows, request=request(f"r{number}", at_us=at_us))
