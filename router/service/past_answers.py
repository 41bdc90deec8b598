"""Gives back, beside the requests, what a restart has forgotten: how long the answers of each tenant are.

Nobody waits for it. What the ledger held when this process started is read from there; what is answered from then on
is learnt as ever, by whoever answers it. An instant tells the two apart, so that nothing counts twice.
"""

from __future__ import annotations

import asyncio
from typing import Final

from policies.predict.history import OutputHistory
from policies.predict.past import question_of
from pricing.clock import Clock
from pricing.errors import StoreUnavailable
from pricing.ledger.answers import Page, answers_after, newest_since
from pricing.ledger.place import LedgerPlace
from router.service.considerate import considerate
from router.serving.expectation import OutputExpectation
from router.telemetry.log import LOGGER

REQUESTS_AT_MOST: Final = 50_000
"""The newest of all tenants together. Of a million, reading them takes 2 s in SQLite and 4 s in PostgreSQL, with 0.8 s
of CPU; a tenant that sends one request in 400 is known as well as before.
"""
PAGE: Final = 500  # requests that are read and learnt from at once: 8 ms, in turns with the requests that are served
REST_S: Final = 0.01  # between two pages


class PastAnswers:
    """Of one process. Made before it serves anything."""

    def __init__(self, place: LedgerPlace, expectation: OutputExpectation, clock: Clock) -> None:
        self._place = place
        self._expectation = expectation
        self._clock = clock
        self._started_us = clock.wall_us()
        self._answers = 0

    async def recall(self, reached: asyncio.Event | None = None) -> None:
        """Read the ledger, once it is `reached`. What keeps from it is said once; lengths are learnt anew then."""

        async def teach(history: OutputHistory) -> None:
            if reached is not None:
                await reached.wait()
            await self._teach(history)

        try:
            known = await self._expectation.recall(teach)
        except StoreUnavailable as problem:
            LOGGER.warning("lengths of past answers are not known", extra={"fields": {"detail": str(problem)}})
            return
        if known:
            LOGGER.info("lengths of past answers are known", extra={"fields": {"answers": self._answers}})
        else:
            LOGGER.info("lengths of answers were learnt before the ledger could say them")

    async def _teach(self, history: OutputHistory) -> None:
        """Oldest first. Raises StoreUnavailable."""
        since_us = await asyncio.to_thread(newest_since, self._place, REQUESTS_AT_MOST, self._started_us)
        after: tuple[int, str] | None = (since_us, "")
        while after is not None:
            with considerate():
                page = await asyncio.to_thread(self._learn_page, history, after)
            self._answers += len(page.answers)
            after = page.last
            await self._clock.sleep(REST_S * self._clock.speedup)

    def _learn_page(self, history: OutputHistory, after: tuple[int, str]) -> Page:
        page = answers_after(self._place, after, self._started_us, PAGE)
        for answer in page.answers:
            history.add(question_of(answer), answer.tokens_each)
        return page
