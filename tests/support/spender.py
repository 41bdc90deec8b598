"""A process that spends money as fast as it can and says what was settled, for tests that kill it.

    python -m support.spender LEDGER RUN

Writes `ready` once the ledger is open, then `hold_id amount` for each settlement after it was committed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import Settlement
from pricing.clock import SystemClock
from pricing.ledger.rows import RowKind
from support.money import cap, caps, house_row, request, row, wish

TABLE = caps(cap(10**12), cap(10**12, scope="pool:l4"))
LEASE_S = 30.0
CLIENTS = 8


def say(text: str) -> None:
    """Straight to the pipe: what was said before a kill has been said."""
    os.write(1, f"{text}\n".encode())


async def spend(store: SqliteStore, clock: SystemClock, run: str, client: int) -> None:
    number = 0
    while True:
        number += 1
        request_id, amount = f"{run}-{client}-{number}", 1 + (client * 31 + number * 17) % 500
        hold_id = f"{request_id}:1"
        await store.open(wish(hold_id, amount, lease_s=LEASE_S))
        await store.extend([(hold_id, amount + 5)])
        paid_row = row(hold_id, amount, at_us=clock.wall_us())
        await store.settle(Settlement(hold_id, amount, (paid_row,), request(request_id, at_us=clock.wall_us())))
        say(f"{hold_id} {amount}")
        if number % 10 == 0:
            house = house_row(f"l4@{request_id}:0:idle", RowKind.IDLE, 3, clock.wall_us())
            await store.post([house])


async def main(ledger: Path, run: str) -> None:
    clock = SystemClock()
    store = SqliteStore(ledger, clock, TABLE)
    say("ready")
    await asyncio.gather(*(spend(store, clock, run, client) for client in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
