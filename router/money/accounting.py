"""Where pools' meters and tenants' holds meet: what an attempt may spend, what it has spent, and whose money it was.

An attempt opens a hold and with it enters its pool's meter, is extended with all others once per tick, and leaves the
meter when it ends; the charge that the meter says is then settled against the hold. Where the meter cannot be asked in
the end, the charge is estimated from its last reading, and marked so. An attempt on a pool that is billed by the token
has no meter, and is charged its usage instead (`router.money.charging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from policies.policy import Limits, OnExhausted, OnStoreDown, Payer
from policies.requirements import Tier
from pools.spec import PoolSpec
from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.standing import UNLIMITED
from pricing.budgets.store import BudgetStore, OpenHold, Room, Settlement, Standing
from pricing.clock import US_PER_S, Clock
from pricing.errors import BudgetExceeded, HoldEnded, StoreUnavailable
from pricing.ledger.rows import Evidence, House, LedgerRow, RequestRow, RowKind, SchemaResult
from pricing.money import US_PER_HOUR, ceil_nusd, half_even_nusd
from pricing.prices.rates import ContainerRate
from router.interrupts import Cause, Interrupts
from router.money.charging import BySeconds, ByTokens, Charging
from router.money.meters import MeteredPools

TICKS_AHEAD = 2  # a hold covers what accrued plus two ticks ...
SHARE_MARGIN = 2  # ... at twice the predicted share, since neighbours may leave and the share grow


@dataclass(slots=True)
class Spender:
    """Who asks, as the ledger names it."""

    tenant: str
    key_id: str
    tags: tuple[str, ...]
    scopes: tuple[Scope, ...]


@dataclass(slots=True, eq=False)
class Attempt:
    """One try on one pool, from its hold to its settlement. Nano-dollars, and monotonic microseconds."""

    request_id: str
    number: int  # starts at 1
    pool: PoolSpec
    rate: ContainerRate
    request_class: str
    tier: Tier
    spender: Spender
    limits: Limits
    interrupts: Interrupts
    policy_version: str
    weight: int
    share_nusd_per_h: int
    expected_charge_nusd: int
    kv_tokens: int = 0
    tokens: int = 0  # prompt and expected answer, for rate limits
    standing: Standing = UNLIMITED  # of its scopes, when it began
    hold_nusd: int = 0
    anchor_us: int = 0
    dispatched_us: int = 0
    ttft_us: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0  # of the prompt's, in the provider's own cache
    expected_prompt_tokens: int = 0
    output_bound: int = 0
    streamed: bool = False
    produced_tokens: int = 0  # of a stream that is billed by the token, as far as can be told from what it said
    refused: bool = False  # it was answered with an error, or never reached its pool
    most_nusd: int | None = None  # what it can come to, where its tokens are bounded and billed
    accrued_nusd: int = 0  # as last read, ...
    read_us: int = 0  # ... then; monotonic
    charge_nusd: int = 0  # as metered
    payment_nusd: int | None = None  # of the tenant, once it is fixed
    metered: bool = field(default=False)
    estimated: bool = False  # no meter said what it costs
    evidence: Evidence = Evidence.MODELLED  # of what it costs
    without_store: bool = False  # its hold is out of this replica's allowance
    schema_result: SchemaResult | None = None
    hold_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.hold_id = f"{self.request_id}:{self.number}"

    @property
    def busy_us(self) -> int:
        """Container time of what it cost, at the rate that it began with; 0 where tokens are billed."""
        rate_nusd_per_h = self.rate.nusd_per_h
        return half_even_nusd(self.charge_nusd * US_PER_HOUR, rate_nusd_per_h) if rate_nusd_per_h else 0

    def accrued_by(self, mono_us: int) -> int:
        """What it has cost by now, if its share stayed as it was when its meter was last read; rounded up."""
        return self.accrued_nusd + ceil_nusd(self.share_nusd_per_h * (mono_us - self.read_us), US_PER_HOUR)


class Accounting:
    """Owns the running attempts; all their money goes through one `BudgetStore`, which keeps what it cannot write."""

    def __init__(self, store: BudgetStore, pools: MeteredPools, clock: Clock) -> None:
        self._store = store
        self._pools = pools
        self._by_seconds = BySeconds(pools.meters)
        self._by_tokens = ByTokens(clock)
        self._clock = clock
        self._running: dict[str, Attempt] = {}

    def replace_caps(self, caps: CapTable) -> None:
        """Put another table of caps in force, from the next step on."""
        self._store.replace_caps(caps)

    def now_us(self) -> int:
        """The wall time that budgets and rows go by, whatever this machine's clock says."""
        return self._store.now_us()

    # -- attempts --------------------------------------------------------------------------------------------------

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        """Why a hold of that amount would be refused now; None where there is room."""
        return self._store.refusal(scopes, amount_nusd)

    def room(self, scopes: Sequence[Scope]) -> Room:
        """What the tightest cap leaves, as far as is known here."""
        return self._store.room(scopes)

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        """Whether `room` may not know yet that a cap lowers the tier, or does no longer; `refresh` is worth it then."""
        return self._store.is_old(scopes)

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        """Bring `room` and `refusal` up to date. Raises StoreUnavailable."""
        await self._store.refresh(scopes)

    async def begin(self, attempt: Attempt, previous: Settlement | None) -> None:
        """Open the attempt's first hold; one step with settling the previous attempt, if there was one.

        Raises BudgetExceeded and RateLimited (the previous settlement stands), and StoreUnavailable.
        """
        wish = self._first_hold(attempt)
        if previous is None:
            hold = await self._store.open(wish)
        else:
            hold = await self._store.settle_and_open(previous, wish)
        attempt.hold_nusd = hold.amount_nusd
        attempt.anchor_us = hold.anchor_us
        attempt.standing = hold.standing
        attempt.without_store = hold.without_store

    async def settle(self, settlement: Settlement) -> None:
        """End a failed attempt's hold before its request goes on."""
        await self._store.settle(settlement)

    def _first_hold(self, attempt: Attempt) -> OpenHold:
        tick_us = round(attempt.limits.hold_tick_s * US_PER_S)
        two_ticks = ceil_nusd(attempt.share_nusd_per_h * TICKS_AHEAD * tick_us, US_PER_HOUR)
        amount = max(attempt.expected_charge_nusd, _at_most(attempt, two_ticks))
        return OpenHold(
            hold_id=attempt.hold_id,
            request_id=attempt.request_id,
            scopes=attempt.spender.scopes,
            amount_nusd=amount,
            lease_s=attempt.limits.hold_lease_s,
            anchor_us=attempt.anchor_us or None,
            on_expiry=self._row(attempt, attempt.spender.tenant, amount, "expired", estimated=True),
            tokens=attempt.tokens,
            without_store=attempt.limits.on_store_down is OnStoreDown.ALLOW,
            meter=self._charging(attempt).entry(attempt),
        )

    def _charging(self, attempt: Attempt) -> Charging:
        return self._by_seconds if attempt.rate.tokens is None else self._by_tokens

    def dispatch(self, attempt: Attempt) -> None:
        """The request goes up now; with its hold it has entered its meter."""
        attempt.dispatched_us = attempt.read_us = self._clock.mono_us()
        attempt.metered = True
        self._running[attempt.hold_id] = attempt

    async def leave_meter(self, attempt: Attempt) -> int:
        """The work is done: fix what the attempt costs. May be called again, also after a call that was cancelled."""
        if attempt.metered:
            try:
                charge = await self._charging(attempt).leave(attempt)
                attempt.charge_nusd, attempt.evidence = charge.nusd, charge.evidence
            except (StoreUnavailable, HoldEnded):
                self._estimate(attempt)
            attempt.metered = False
            self._running.pop(attempt.hold_id, None)
        return attempt.charge_nusd

    def _estimate(self, attempt: Attempt) -> None:
        """The meter cannot be asked, or has lost the attempt with its hold: a guess, which no hold is passed for."""
        accrued = attempt.accrued_by(self._clock.mono_us())
        finish = attempt.limits.on_exhausted is OnExhausted.FINISH
        attempt.charge_nusd = accrued if finish else min(accrued, attempt.hold_nusd)
        attempt.estimated = True

    async def close(self, attempt: Attempt, outcome: str, payer: Payer) -> Settlement:
        """Turn a finished attempt into the settlement of its hold; whoever ends the request settles it."""
        if payer is Payer.HOUSE:
            charge = await self.leave_meter(attempt)
            row = self._row(attempt, House.FAILED, charge, outcome)
            return Settlement(attempt.hold_id, 0, (row,))
        amount = await self.fix_payment(attempt)
        charge = attempt.charge_nusd
        finish = attempt.limits.on_exhausted is OnExhausted.FINISH
        rows = [self._row(attempt, attempt.spender.tenant, amount, outcome, metered=charge)]
        if charge > amount:
            rows.append(_overrun(rows[0], attempt.hold_id, charge - amount))
        return Settlement(attempt.hold_id, amount, tuple(rows), may_exceed_hold=finish)

    async def fix_payment(self, attempt: Attempt) -> int:
        """The work is done: leave the meter, and fix what the tenant is to pay. May be called again; the amount stays.

        A charge beyond the hold is asked for once more; what no cap has room for is the house's overrun, or under
        `finish` is paid all the same.
        """
        charge = await self.leave_meter(attempt)
        if attempt.payment_nusd is None:
            if charge > attempt.hold_nusd:
                await self._extend_once_more(attempt, charge)
            finish = attempt.limits.on_exhausted is OnExhausted.FINISH
            attempt.payment_nusd = charge if finish else min(charge, attempt.hold_nusd)
        return attempt.payment_nusd

    async def _extend_once_more(self, attempt: Attempt, charge_nusd: int) -> None:
        [extended] = await self._store.extend([(attempt.hold_id, charge_nusd)])
        attempt.hold_nusd = max(attempt.hold_nusd, extended.amount_nusd)

    async def end(self, request: RequestRow, last: Settlement | None) -> None:
        """Write a request's summary, and in the same transaction its last settlement, where one is pending.

        Raises StoreUnavailable for a request that holds no money: nothing bounds how many of those may come, so that
        their summaries are not kept.
        """
        if last is None:
            await self._store.record(request)
        else:
            await self._store.settle(with_request(last, request))

    def _row(
        self,
        attempt: Attempt,
        account: str,
        amount_nusd: int,
        outcome: str,
        *,
        metered: int | None = None,
        estimated: bool = False,
    ) -> LedgerRow:
        running_us = self._clock.mono_us() - attempt.dispatched_us if attempt.dispatched_us else 0
        return LedgerRow(
            row_id=f"{attempt.hold_id}:{RowKind.ATTEMPT}",
            at_us=self._store.now_us(),
            kind=RowKind.ATTEMPT,
            account=account,
            amount_nusd=amount_nusd,
            metered_nusd=amount_nusd if metered is None else metered,
            pool=attempt.pool.name,
            gpu=attempt.pool.gpu.id,
            model=attempt.pool.model.id,
            policy_version=attempt.policy_version,
            price_books=attempt.rate.book,
            tenant=attempt.spender.tenant,
            key_id=attempt.spender.key_id,
            request_id=attempt.request_id,
            attempt=attempt.number,
            request_class=attempt.request_class,
            tier=attempt.tier,
            outcome=outcome,
            duration_us=running_us,
            ttft_us=attempt.ttft_us,
            prompt_tokens=attempt.prompt_tokens,
            completion_tokens=attempt.completion_tokens,
            cached_prompt_tokens=min(attempt.cached_tokens, attempt.prompt_tokens or 0),
            estimated=estimated or attempt.estimated,
            tags=attempt.spender.tags,
            schema_result=attempt.schema_result,
            evidence=attempt.evidence,
        )

    # -- the tick --------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Extend all running attempts in one batch, cut those that cannot be given more, end holds that nobody ends."""
        self._pools.apply_due_rates(self._clock.wall_us())
        attempts = list(self._running.values())
        await self._read(attempts)
        await self._extend(attempts)
        await self._store.expire()

    async def _read(self, attempts: Sequence[Attempt]) -> None:
        """Note what every attempt has accrued and what its share is; one of which nothing is heard keeps its last
        reading.
        """
        timed = [attempt for attempt in attempts if attempt.rate.tokens is None]
        readings = await self._by_seconds.read(timed)
        if len(timed) < len(attempts):
            others = [attempt for attempt in attempts if attempt.rate.tokens is not None]
            readings = {**readings, **await self._by_tokens.read(others)}
        now_us = self._clock.mono_us()
        for attempt in attempts:
            reading = readings.get(attempt.hold_id)
            if reading is not None:
                attempt.accrued_nusd, attempt.share_nusd_per_h = reading.accrued_nusd, reading.share_nusd_per_h
                attempt.read_us = now_us

    async def _extend(self, attempts: Sequence[Attempt]) -> None:
        wishes = [(attempt.hold_id, _wish(attempt)) for attempt in attempts if attempt.metered]
        if not wishes:
            return
        answers = {extended.hold_id: extended for extended in await self._store.extend(wishes)}
        for attempt in attempts:
            extended = answers.get(attempt.hold_id)
            if extended is not None:
                attempt.hold_nusd = max(attempt.hold_nusd, extended.amount_nusd)
                if not extended.granted:
                    self._refused(attempt, Cause.STORE_DOWN if extended.store_down else Cause.CUT)

    def _refused(self, attempt: Attempt, cause: Cause) -> None:
        """There is no more than the hold. It is spent to its end, then the attempt is cut."""
        if attempt.limits.on_exhausted is OnExhausted.FINISH or not attempt.metered:
            return
        tick_us = round(attempt.limits.hold_tick_s * US_PER_S)
        next_tick = ceil_nusd(attempt.share_nusd_per_h * tick_us, US_PER_HOUR)
        if attempt.accrued_by(self._clock.mono_us()) + next_tick > attempt.hold_nusd:
            attempt.interrupts.interrupt(cause)


def _wish(attempt: Attempt) -> int:
    ahead_us = TICKS_AHEAD * round(attempt.limits.hold_tick_s * US_PER_S)
    ahead = ceil_nusd(SHARE_MARGIN * attempt.share_nusd_per_h * ahead_us, US_PER_HOUR)
    return max(attempt.hold_nusd, _at_most(attempt, attempt.accrued_nusd + ahead))


def _at_most(attempt: Attempt, wish_nusd: int) -> int:
    """No more than the attempt can come to, as long as it keeps to its bound."""
    most = attempt.most_nusd
    return wish_nusd if most is None or attempt.accrued_nusd > most else min(wish_nusd, most)


def _overrun(row: LedgerRow, hold_id: str, amount_nusd: int) -> LedgerRow:
    """What an attempt's row leaves to the house: money alone, since time, tokens and schema are the attempt's."""
    money = {"kind": RowKind.OVERRUN, "account": House.OVERRUN, "amount_nusd": amount_nusd, "metered_nusd": 0}
    none = {"duration_us": 0, "ttft_us": None, "prompt_tokens": None, "completion_tokens": None, "schema_result": None}
    return replace(row, row_id=f"{hold_id}:{RowKind.OVERRUN}", cached_prompt_tokens=0, **money, **none)


def with_request(settlement: Settlement, request: RequestRow) -> Settlement:
    """The last settlement of a request carries its summary, so that both are written in one transaction."""
    return replace(settlement, request=request)
