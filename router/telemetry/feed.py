"""Requests as they end, for those who watch: what was served, told to every listener that may see it.

What this replica served comes by its own events. What others served is told them by `feed_sharing.py`, which also takes
what ended here for those who watch elsewhere.

Answered attempts are told by the request's own event; only failed ones are kept until their request ends, so that a
request that went well costs no more here than a look at two types.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from pricing.ledger.recent import Recent, Tried
from router.telemetry.events import AttemptEnded, Event, RequestEnded

LISTENERS_AT_MOST: Final = 200
KEPT_AT_MOST: Final = 256  # for one listener that does not read; then the oldest go
FOR_OTHERS_AT_MOST: Final = 25  # between two turns of sharing; then the oldest go
UNENDED_AT_MOST: Final = 10_000  # requests whose failed attempts are kept


class Listener:
    """One who watches. `tenant` None sees all requests."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.closed = False
        self._waiting: deque[Recent] = deque(maxlen=KEPT_AT_MOST)
        self._news = asyncio.Event()

    def told(self, one: Recent) -> None:
        if self.tenant in (None, one.tenant):
            self._waiting.append(one)
            self._news.set()

    def close(self) -> None:
        self.closed = True
        self._news.set()

    async def news(self, timeout_s: float) -> list[Recent]:
        """What came since the last time, oldest first; empty after `timeout_s` real seconds without any."""
        if not self._news.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_s)
        self._news.clear()
        found = list(self._waiting)
        self._waiting.clear()
        return found


class Feed:
    """A sink of events. Belongs to the event loop."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._failed: dict[str, list[Tried]] = {}
        self._for_others: deque[Recent] | None = None  # None: nobody watches anywhere else
        self._closed = False

    def emit(self, event: Event) -> None:
        if type(event) is AttemptEnded:
            if event.outcome != "answered":
                self._keep(event)
        elif type(event) is RequestEnded and (self._failed or self._listeners or self._for_others is not None):
            failed = self._failed.pop(event.request_id, [])
            if self._listeners or self._for_others is not None:
                self._ended(_recent(event, failed))

    def _ended(self, one: Recent) -> None:
        if self._for_others is not None:
            self._for_others.append(one)
        self.heard((one,))

    def heard(self, ended: Iterable[Recent]) -> None:
        """Tell the listeners here what ended, here or at another replica."""
        for one in ended:
            for listener in self._listeners:
                listener.told(one)

    def others_watch(self, they_do: bool) -> None:
        """Whether what ends here is wanted elsewhere."""
        if not they_do:
            self._for_others = None
        elif self._for_others is None:
            self._for_others = deque(maxlen=FOR_OTHERS_AT_MOST)

    def for_others(self) -> list[Recent]:
        """What ended here since the last call, oldest first, while others watch."""
        if not self._for_others:
            return []
        ended = list(self._for_others)
        self._for_others.clear()
        return ended

    def _keep(self, event: AttemptEnded) -> None:
        if len(self._failed) >= UNENDED_AT_MOST:
            del self._failed[next(iter(self._failed))]
        tried = Tried(event.attempt, event.pool, event.outcome)
        self._failed.setdefault(event.request_id, []).append(tried)

    @property
    def watched(self) -> bool:
        return bool(self._listeners)

    @property
    def full(self) -> bool:
        """As many listen as are served at a time."""
        return len(self._listeners) >= LISTENERS_AT_MOST

    @contextmanager
    def listening(self, tenant: str | None) -> Iterator[Listener]:
        """Listen for as long as the block runs."""
        listener = Listener(tenant)
        listener.closed = self._closed
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """The process stops: end what listens."""
        self._closed = True
        for listener in self._listeners:
            listener.close()


def _recent(event: RequestEnded, failed: list[Tried]) -> Recent:
    attempts = tuple(failed)
    if event.pool is not None and event.attempts > len(failed):
        attempts += (Tried(event.attempts, event.pool, "answered"),)
    return Recent(
        request_id=event.request_id,
        at_us=event.at_us,
        tenant=event.tenant,
        key_id=event.key_id,
        endpoint=event.endpoint,
        request_class=event.request_class,
        tier=event.tier,
        pool=event.pool,
        outcome=event.outcome,
        status=event.status,
        error_code=event.error_code,
        stream=event.stream,
        duration_us=event.duration_us,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        attempts=attempts,
        charged_nusd=event.charge_nusd,
    )
