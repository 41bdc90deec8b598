"""Reads how caps and rate limits stand, in batches that keep the server free for steps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from pricing.budgets.caps import CapTable, Dimension, RateLimits, Scope
from pricing.budgets.store import CapCounts, CapStatus, RateStatus, counted
from pricing.clock import US_PER_S
from pricing.redis.answers import Answers
from pricing.redis.connection import bulk
from pricing.redis.packing import CapPacker, PackedCaps, key_part
from pricing.redis.steps import Steps
from pricing.redis.views import Views

BATCH: Final = 50  # scopes a script; each may have to sum a month anew
_T = TypeVar("_T")


class Reader:
    def __init__(self, steps: Steps, packer: CapPacker, views: Views, answers: Answers) -> None:
        self._steps = steps
        self._packer = packer
        self._views = views
        self._answers = answers
        self._refreshing: dict[tuple[Scope, ...], asyncio.Task[None]] = {}

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        """Bring the views of these scopes up to date; callers that come at once share one answer."""
        asked = tuple(scopes)
        task = self._refreshing.get(asked)
        if task is None:
            task = self._refreshing[asked] = asyncio.create_task(self._refresh(asked))
            task.add_done_callback(lambda _: self._refreshing.pop(asked, None))
        await asyncio.shield(task)

    async def refresh_all(self, scopes: Iterable[Scope], *, spent: bool = False) -> None:
        """Bring the views of many scopes up to date; where they have spent, send the warnings that are due."""
        for batch in _batches([scope for scope in scopes if self._views.of(scope)]):
            await self._sums(self._packer.pack_anew(batch), spent)

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        """Every cap in force, in the table's order; or those of some scopes."""
        asked = self._views.scopes() if scopes is None else tuple(dict.fromkeys(scopes))
        await self.refresh_all(asked)
        now_us = self._steps.now_us()
        shown = self._views.all() if scopes is None else [seen for scope in asked for seen in self._views.of(scope)]
        return [seen.status(now_us, self._views.zone) for seen in shown]

    async def cap_counts(self) -> CapCounts:
        """Over all caps in force."""
        counts = CapCounts()
        for packed in self._packer.pack_all(BATCH):
            await self._sums(packed)
            counts += counted((seen.stands() for seen in packed.seen), self._steps.now_us())
        return counts

    async def rate_statuses(self, caps: CapTable, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        """Every rate limit in force, in the table's order; or those of some scopes."""
        found: list[RateStatus] = []
        asked = caps.limits if scopes is None else (scope for scope in dict.fromkeys(scopes) if scope in caps.limits)
        for batch in _batches(list(asked)):
            _, *numbers = await self._steps.run("limits", *(key_part(str(scope)) for scope in batch))
            for index, scope in enumerate(batch):
                found += _rates_of(scope, caps.limits[scope], *numbers[4 * index : 4 * index + 4])
        return found

    async def _refresh(self, scopes: tuple[Scope, ...]) -> None:
        packed = self._packer.pack(scopes)
        if packed.seen:
            await self._sums(packed)
            await self._ask_when(packed)

    async def _sums(self, packed: PackedCaps, spent: bool = False) -> None:
        reply = await self._steps.step("sums", self._packer, (packed,), 2, (packed.word, bulk(int(spent))))
        self._steps.heard(reply[1])
        self._answers.note_sums(reply, 3, packed)
        self._views.looked(packed.scopes, reply[1])
        self._answers.warn(reply[2], packed, reply[1])

    async def _ask_when(self, packed: PackedCaps) -> None:
        """Ask when amounts will fit that were refused, unless that is known: sums have not changed since."""
        now_us = self._steps.now_us()
        asked = [seen.unanswered_nusd(now_us) for seen in packed.seen]
        if not any(amount is not None for amount in asked):
            return
        words = (packed.word, *(bulk(-1 if amount is None else amount) for amount in asked))
        reply = await self._steps.step("frees", self._packer, (packed,), len(words), words)
        for seen, amount, at_us in zip(packed.seen, asked, reply[2:], strict=True):
            if amount is not None and at_us:
                seen.answered(amount, None if at_us < 0 else at_us)


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[begin : begin + BATCH] for begin in range(0, len(items), BATCH))


def _rates_of(
    scope: Scope, limits: RateLimits, requests: int, tokens: int, resets_us: int, in_flight: int
) -> Iterator[RateStatus]:
    for dimension, limit, used in (
        (Dimension.REQUESTS, limits.requests_per_minute, requests),
        (Dimension.TOKENS, limits.tokens_per_minute, tokens),
        (Dimension.IN_FLIGHT, limits.in_flight, in_flight),
    ):
        if limit is not None:
            resets_s = None if dimension is Dimension.IN_FLIGHT else resets_us / US_PER_S if used else 0
            yield RateStatus(scope, dimension, limit, used, resets_s)
