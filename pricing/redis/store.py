"""The budget store of several replicas: money in Redis, moved by one atomic script a step.

What `pricing.budgets.store` promises holds over all replicas that share a namespace, because a step reads, decides and
writes within one script, on the server's clock. The scripts are in `lua/`; caps travel with each step from this
replica's files (`packing.py`), views are what replies said last (`views.py`).

A step whose answer is lost may or may not have happened, so steps can be repeated: a hold is opened and grown by its
id, and a call that ends one carries a token by which the script knows it again. What nobody waits for any more is
finished in the background, then with each tick (`unheard.py`).

Time never runs backwards and never stops, see `lua/clock.lua`: behind what was seen, or implausibly far ahead of it,
the server's clock says only how much time passes; where it is set forward, leases end early, which is the safe side.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from pricing.budgets.account import CapWarning
from pricing.budgets.caps import CapTable, Scope, parse_scope
from pricing.budgets.settlement import check_settlement, late_row
from pricing.budgets.store import CapCounts, CapStatus, Extended, Hold, OpenHold, RateStatus, Room, Settlement
from pricing.clock import US_PER_S, Clock
from pricing.errors import BudgetExceeded, HoldEnded, StoreUnavailable
from pricing.ledger.entries import rows_json, value_json
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.meter.meters import PoolLoad
from pricing.redis.answers import Answers, backlog_full, check_amount, check_settled, good_for_s, too_large
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word, bulk
from pricing.redis.house_rows import house_words
from pricing.redis.installation import installation_in, not_whole
from pricing.redis.keys import LAYOUT
from pricing.redis.packing import CapPacker, PackedCaps
from pricing.redis.reading import Reader
from pricing.redis.recall import not_extended, terms_of
from pricing.redis.scripts import script
from pricing.redis.steps import Reply, Steps
from pricing.redis.unheard import Unheard
from pricing.redis.views import Views
from pricing.redis.wishes import SETTLEMENT_WORDS, WISH_WORDS, settlement_words, wish_words

BACKLOG_BYTES: Final = 512 * 2**20
CLOCKS_AGREE_US: Final = 60_000_000  # a replica vouches for a clock of Redis that is no further from its own
EXPIRED_AT_ONCE: Final = 100  # holds that one script ends
EXTENDED_AT_ONCE: Final = 100  # holds that one script grows
_STEPS: Final = ("open", "settle", "settle_open", "extend", "expire")
_OTHERS: Final = ("forgo", "sums", "frees", "rows", "post", "check")
_STILL_OPEN: Final = (b"misfit", b"too_large")


def _ignore(_: CapWarning) -> None:
    """Warnings go nowhere unless somebody asks for them."""


def _ignore_load(_: str, __: PoolLoad) -> None:
    """Nor do loads."""


class RedisStore:
    """`BudgetStore` on Redis, for one replica. Belongs to the client's event loop; `start` it before the first step."""

    def __init__(
        self,
        client: RedisClient,
        clock: Clock,
        caps: CapTable,
        *,
        replica: str,
        namespace: str = "sluice",
        on_warn: Callable[[CapWarning], None] = _ignore,
        on_load: Callable[[str, PoolLoad], None] = _ignore_load,
        backlog_bytes: int = BACKLOG_BYTES,
        now: Callable[[], int] | None = None,
    ) -> None:
        """`replica` owns the holds that it opens; no two that run may have one name, and it holds no white space.

        `on_warn` is called when a cap passes its warning threshold, once per window over all replicas. `on_load`
        is told what other replicas run in a pool whose meter a hold has entered. `backlog_bytes`
        is how much of the ledger may wait for PostgreSQL before no hold is opened any more. `now` is the wall time that
        scripts use, for tests and scaled clocks; None: the server's own.
        """
        if not replica or len(replica.split()) != 1:
            raise ValueError(f"'{replica}' is no name of a replica; use one without white space")
        self._client = client
        self._clock = clock
        self._replica = replica
        self._on_load = on_load
        self._backlog_bytes = backlog_bytes
        self._caps = caps
        self._steps = Steps(client, namespace, clock, now)
        self._views = Views(caps)
        self._packer = CapPacker(caps, self._views, clock.wall_us())
        self._answers = Answers(caps.timezone, on_warn)
        self._reader = Reader(self._steps, self._packer, self._views, self._answers)
        self._unheard = Unheard(secrets.token_hex(6))
        self._holds: dict[str, PackedCaps] = {}  # open ones of this replica
        self._finishing: asyncio.Task[None] | None = None
        self.installation: str | None = None  # the id that Redis must have; None while the ledger has not said it

    async def start(self) -> None:
        """Whenever the server was not there: check that this program knows how the keys are laid out, load the scripts,
        and finish what nobody heard of. Raises StoreUnavailable.
        """
        layout = await self._steps.bare("layout", LAYOUT)
        if layout > LAYOUT:
            raise StoreUnavailable(
                f"Redis holds budgets in layout {layout} and this program knows {LAYOUT}; start a newer version of it"
            )
        if layout < LAYOUT:
            raise StoreUnavailable(
                f"Redis holds budgets in layout {layout}, which this program no longer reads: it knows {LAYOUT}; go on "
                "with the version that wrote them, or set SLUICE_REDIS_NAMESPACE to a name that is new"
            )
        await self._must_be_whole()
        await asyncio.gather(
            *(self._client.command("SCRIPT", "LOAD", script(name).text) for name in (*_STEPS, *_OTHERS))
        )
        await self._steps.run("agree", self._clock.wall_us(), CLOCKS_AGREE_US)
        await self._catch_up()

    async def _must_be_whole(self) -> None:
        """Raises StoreUnavailable where Redis has another id than it must have, or none."""
        expected = self.installation
        if expected is not None and (found := await installation_in(self._client, self._steps.prefix)) != expected:
            self._unheard.emptied(self._clock.mono_us())
            raise not_whole(found)

    @property
    def skew_s(self) -> float:
        """How far Redis's time is ahead of this replica's clock, by the last reply; below 0: behind."""
        return (self.now_us() - self._clock.wall_us()) / US_PER_S

    def now_us(self) -> int:
        """The server's time, by its last reply and what has passed since; before the first, this replica's."""
        return self._steps.now_us()

    # -- views -----------------------------------------------------------------------------------------------------

    def replace_caps(self, caps: CapTable) -> None:
        self._caps = caps
        self._views.replace(caps)
        self._packer.replace(caps)
        self._answers.zone = caps.timezone

    def room(self, scopes: Sequence[Scope]) -> Room:
        return self._views.room(scopes, self._steps.now_us())

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        return self._views.refusal(scopes, amount_nusd, self._steps.now_us())

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        return self._views.is_old(scopes, self._steps.now_us())

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        await self._reader.refresh(scopes)

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        return await self._reader.statuses(scopes)

    async def rate_statuses(self, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        return await self._reader.rate_statuses(self._caps, scopes)

    async def cap_counts(self) -> CapCounts:
        return await self._reader.cap_counts()

    # -- holds -----------------------------------------------------------------------------------------------------

    async def open(self, wish: OpenHold) -> Hold:
        packed = self._packer.pack(wish.scopes)
        parts = wish_words(wish, packed, self._replica, self._backlog_bytes, self.installation)
        sent_us = self._clock.mono_us()
        self._unheard.wanted(wish.hold_id)
        try:
            reply = await self._steps.step("open", self._packer, (packed,), WISH_WORDS, parts)
        except (StoreUnavailable, asyncio.CancelledError):
            self._forgo(wish.hold_id)
            raise
        return self._opened(reply, wish, packed, sent_us)

    async def extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        answers: list[Extended] = []
        for begin in range(0, len(wishes), EXTENDED_AT_ONCE):
            answers += await self._extend(wishes[begin : begin + EXTENDED_AT_ONCE])
        return answers

    async def settle(self, settlement: Settlement) -> None:
        check_settlement(settlement)
        await self._end(settlement, "settled")

    async def settle_and_open(self, settlement: Settlement, wish: OpenHold) -> Hold:
        check_settlement(settlement)
        last, packed = self._caps_of(settlement.hold_id), self._packer.pack(wish.scopes)
        token = self._unheard.token(settlement.hold_id)
        words, parts = (
            SETTLEMENT_WORDS + WISH_WORDS,
            (
                *settlement_words(settlement, last, self._replica, token, "settled"),
                *wish_words(wish, packed, self._replica, self._backlog_bytes, self.installation),
            ),
        )
        sent_us = self._clock.mono_us()
        self._unheard.wanted(wish.hold_id)
        try:
            reply = await self._steps.step("settle_open", self._packer, (last, packed), words, parts)
            if reply[0] == b"late":
                await self._write_late(settlement, reply[1])
        except (StoreUnavailable, asyncio.CancelledError) as error:
            self._unanswered(settlement, token, error)
            self._forgo(wish.hold_id)
            raise
        self._ended(reply, settlement, last)
        return self._opened(reply[3], wish, packed, sent_us)

    async def release(self, hold_id: str, request: RequestRow | None = None) -> None:
        await self._end(Settlement(hold_id, 0, (), request), "released")

    async def expire(self) -> list[str]:
        """Also the store's tick: see that nothing was lost, finish what nobody waits for, refresh the views asked."""
        await self._must_be_whole()
        await self._catch_up()
        ended: dict[str, list[bytes]] = {}
        while True:
            reply = await self._steps.run("expire", EXPIRED_AT_ONCE)
            self._steps.heard(reply[0])
            ended.update((hold_id.decode(), scopes) for hold_id, scopes in zip(reply[1::2], reply[2::2], strict=True))
            if len(reply) <= 2 * EXPIRED_AT_ONCE:
                break
        for hold_id in ended:
            self._holds.pop(hold_id, None)
        touched = {parse_scope(scope.decode()) for scopes in ended.values() for scope in scopes}
        await self._reader.refresh_all(touched, spent=True)
        await self._reader.refresh_all(self._views.take_asked() - touched)
        return list(ended)

    # -- rows without a hold ---------------------------------------------------------------------------------------

    async def post(self, rows: Sequence[LedgerRow], pool_scopes: bool = True) -> None:
        """Write house rows; a row id that was posted within a day changes nothing. Raises ValueError for a tenant's."""
        scopes, args = house_words(rows, pool_scopes)
        if rows:
            await self._post(self._packer.pack_anew(scopes), args)

    async def record(self, request: RequestRow) -> None:
        await self._steps.bare("rows", b"", value_json(request))

    async def check(self) -> None:
        waiting = int(await self._steps.run("check"))
        if waiting > self._backlog_bytes:
            raise backlog_full(waiting)

    async def aclose(self) -> None:
        """Wait for the steps that are on their way and for what they left to do. The client is its owner's to close."""
        with suppress(StoreUnavailable):
            await self._steps.run("check")  # answered after all that was sent before it
        if self._finishing is not None:
            await self._finishing

    # -- opening ---------------------------------------------------------------------------------------------------

    def _opened(self, reply: Reply, wish: OpenHold, packed: PackedCaps, sent_us: int) -> Hold:
        heard_us = self._clock.mono_us()
        hold = self._answers.opened(reply, wish, packed, heard_us - sent_us)
        self._steps.heard(reply[1], heard_us)
        self._holds[wish.hold_id] = packed
        running, kv_tokens = reply[-2:]
        if wish.meter is not None and running >= 0:
            self._on_load(wish.meter.pool, PoolLoad(running, kv_tokens))
        return hold

    def _forgo(self, hold_id: str) -> None:
        self._unheard.forgo(hold_id)
        self._finish_soon()

    # -- growing ---------------------------------------------------------------------------------------------------

    async def _extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        for hold_id, amount_nusd in wishes:
            check_amount(f"hold {hold_id}", amount_nusd)
            if hold_id not in self._holds:
                await self._recall(hold_id)
        ours = [(hold_id, amount) for hold_id, amount in wishes if hold_id in self._holds]
        answers = await self._extend_ours(ours) if ours else {}
        return [answers.get(hold_id) or await not_extended(self._steps, hold_id) for hold_id, _ in wishes]

    async def _extend_ours(self, wishes: Sequence[tuple[str, int]]) -> dict[str, Extended]:
        tables: dict[PackedCaps, int] = {}
        args: list[Word] = []
        for hold_id, amount_nusd in wishes:
            packed = self._caps_of(hold_id)
            args += (hold_id, amount_nusd, tables.setdefault(packed, len(tables) + 1))
        sent_us = self._clock.mono_us()
        begin = (bulk(self._replica), bulk(len(tables)))
        words = (*begin, *(packed.word for packed in tables), *map(bulk, args))
        reply = await self._steps.step("extend", self._packer, tuple(tables), len(words), words)
        now_us, taken_us = reply[1], self._clock.mono_us() - sent_us
        self._steps.heard(now_us)
        for packed, sums in zip(tables, reply[3:], strict=True):
            self._answers.note_sums(sums, 0, packed)
        answers: dict[str, Extended] = {}
        for index, (hold_id, _) in enumerate(wishes):
            amount_nusd, granted, deadline_us = reply[2][3 * index : 3 * index + 3]
            if deadline_us:
                left_s = good_for_s(deadline_us, now_us, taken_us)
                answers[hold_id] = Extended(hold_id, amount_nusd, bool(granted), left_s)
            else:
                self._holds.pop(hold_id, None)
        return answers

    async def _recall(self, hold_id: str) -> None:
        """Learn the scopes of a hold that an earlier process of this name opened."""
        terms = await terms_of(self._steps, hold_id)
        if terms is not None:
            self._holds[hold_id] = self._packer.pack(terms.scopes)

    # -- ending ----------------------------------------------------------------------------------------------------

    async def _end(self, settlement: Settlement, how: str) -> None:
        packed = self._caps_of(settlement.hold_id)
        token = self._unheard.token(settlement.hold_id)
        parts = settlement_words(settlement, packed, self._replica, token, how)
        try:
            reply = await self._steps.step("settle", self._packer, (packed,), SETTLEMENT_WORDS, parts)
            if reply[0] == b"unknown" and self._unheard.forgotten_by_now(settlement.hold_id, self._clock.mono_us()):
                reply = [b"again", self._steps.now_us(), []]  # it was ended by our call that got no answer
            if reply[0] == b"late":
                await self._write_late(settlement, reply[1])
        except (StoreUnavailable, asyncio.CancelledError) as error:
            self._unanswered(settlement, token, error)
            raise
        self._ended(reply, settlement, packed)
        if len(reply) > 3:
            self._answers.note_sums(reply, 3, packed)

    async def _write_late(self, settlement: Settlement, now_us: int) -> None:
        """The hold had expired: what the meter said, and the summary. Written twice, it is one row in the ledger."""
        late = late_row(settlement, now_us)
        request = b"" if settlement.request is None else value_json(settlement.request)
        await self._steps.bare("rows", rows_json([late]) if late else b"", request)

    def _ended(self, reply: Reply, settlement: Settlement, packed: PackedCaps) -> None:
        """Take in that a hold has ended. Raises why it was not ended."""
        hold_id = settlement.hold_id
        self._unheard.answered(hold_id)
        if reply[0] not in _STILL_OPEN:
            self._holds.pop(hold_id, None)
        check_settled(reply, settlement)
        self._steps.heard(reply[1])
        if reply[2]:
            self._answers.warn(reply[2], packed, reply[1])

    def _unanswered(self, settlement: Settlement, token: str, error: BaseException) -> None:
        """Nobody knows whether the hold has ended. Its caller tries again, unless it has left."""
        self._unheard.unanswered(settlement.hold_id, token, self._clock.mono_us())
        if isinstance(error, asyncio.CancelledError):
            self._unheard.owe(settlement)
            self._finish_soon()

    def _caps_of(self, hold_id: str) -> PackedCaps:
        """The caps of a hold of this process; none for another's, whose sums the next refresh tells."""
        packed = self._holds.get(hold_id)
        return self._packer.pack(()) if packed is None else self._packer.current(packed)

    # -- what nobody waits for -------------------------------------------------------------------------------------

    def _finish_soon(self) -> None:
        if self._finishing is None or self._finishing.done():
            self._finishing = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        with suppress(StoreUnavailable):  # the next tick tries again
            while self._unheard.any:
                await self._catch_up()

    async def _catch_up(self) -> None:
        while forgone := self._unheard.forgone()[:EXPIRED_AT_ONCE]:
            await self._steps.run("forgo", self._replica, *forgone)
            self._unheard.forgotten(forgone)
        for settlement in self._unheard.owed():
            with suppress(HoldEnded, ValueError):  # nobody is left to hear that it ended otherwise
                await self._end(settlement, "settled")

    async def _post(self, packed: PackedCaps, args: Sequence[Word]) -> None:
        reply = await self._steps.step("post", self._packer, (packed,), 1 + len(args), (packed.word, *map(bulk, args)))
        if reply[0] == b"too_large":
            raise too_large("rows of the house", 0, reply[1])
        self._steps.heard(reply[1])
        self._answers.note_sums(reply, 3, packed)
        self._answers.warn(reply[2], packed, reply[1])
