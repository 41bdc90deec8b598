"""Writes the policies that this router takes into force into the ledger, beside the requests, and finds the one before.

Nobody waits for it: while the ledger cannot be written, a few versions are kept to be written later, and what was in
force before is what this process remembers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from policies.compile.reload import Edition
from pricing.clock import Clock
from pricing.errors import StoreUnavailable
from pricing.ledger.place import LedgerPlace
from pricing.ledger.policy_history import PolicyVersion, remember, version_before
from router.telemetry.log import LOGGER

AGAIN_S: Final = 5.0  # between two tries to write
WAITING_AT_MOST: Final = 16  # editions; somebody who edits that often while the ledger is away keeps the last ones


class PolicyHistory:
    """Of one router, by its name among the replicas."""

    def __init__(self, place: LedgerPlace, replica: str, clock: Clock) -> None:
        self._place = place
        self._replica = replica
        self._clock = clock
        self._waiting: deque[PolicyVersion] = deque(maxlen=WAITING_AT_MOST)
        self._noted = asyncio.Event()
        self._problem: str | None = None

    def note(self, edition: Edition) -> None:
        """An edition was put in force; it is written as soon as that can be done."""
        self._waiting.append(as_version(edition, self._replica))
        self._noted.set()

    async def keep(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._waiting:
                version = self._waiting.popleft()
                if not await self._written(version):
                    if len(self._waiting) < WAITING_AT_MOST:
                        self._waiting.appendleft(version)
                    await self._clock.sleep(AGAIN_S * self._clock.speedup)

    async def _written(self, version: PolicyVersion) -> bool:
        try:
            await asyncio.to_thread(remember, self._place, version)
        except StoreUnavailable as problem:
            if self._problem is None:
                LOGGER.warning("policy not written to the ledger", extra={"fields": {"detail": str(problem)}})
            self._problem = str(problem)
            return False
        self._problem = None
        return True

    def before(self, now: Edition, last: Edition | None) -> PolicyVersion | None:
        """What was in force before `now`: by the ledger, or by this process, which had `last`, if that was later or the
        ledger cannot be read. Reads the disk.
        """
        here = None if last is None else as_version(last, self._replica)
        try:
            written = version_before(self._place, now.version, now.loaded_us)
        except StoreUnavailable:
            return here
        if here is None or written is None:
            return here or written
        return written if written.latest_us > here.latest_us else here


def as_version(edition: Edition, replica: str) -> PolicyVersion:
    """As the ledger keeps it."""
    at_us = edition.loaded_us
    return PolicyVersion(
        edition.version,
        edition.price_book,
        at_us,
        replica,
        at_us,
        replica,
        edition.files,
        edition.premium,
        edition.pools,
    )
