"""The fallback loop: decide, hold money, try, classify, and move on, under one deadline and one cost limit.

What each failure means for the next candidate, the breaker and the bill is the table in `policies/fallback.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from policies.choose.ask import kv_tokens_too_few
from policies.choose.decide import decide
from policies.choose.decision import Candidate, Decision
from policies.choose.facts import PastAttempt
from policies.fallback import FALLBACK
from policies.policy import Limits, Payer
from policies.requirements import Requirements
from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.all_pools import LivePools
from pools.live.warmup import WarmUps
from pools.wire.backend import Backend, UpstreamRequest
from pricing.budgets.store import Settlement
from pricing.clock import US_PER_S, Clock
from pricing.errors import BudgetExceeded, RateLimited, StoreUnavailable
from pricing.ledger.rows import House, SchemaResult
from pricing.money import parse_usd
from pricing.prices.token_price import TokenPrice
from router.errors import ApiError
from router.interrupts import Cause, Interrupted
from router.money.accounting import Accounting, Attempt, Spender
from router.money.meters import MeteredPools
from router.serving.budget_refusals import BudgetRefusals
from router.serving.chain import AttemptReport, Chain
from router.serving.gather import Gatherer
from router.serving.refusals import chain_failed, refusal_of, stop_error
from router.serving.retry_budget import RetryBudget
from router.serving.upstream import upstream_request
from router.serving.waiting import Waiting
from router.telemetry.events import AttemptEnded, Fanout, PoolMisconfigured, StoreTrouble

T = TypeVar("T")
TryOne = Callable[[Attempt, Backend, UpstreamRequest], Awaitable[T]]

ENGINES_AT_MOST: Final = 2  # that say they died under one request before its first token: it may be what kills them
_NEVER_TRIED: Final = frozenset({FailureClass.OVERLOADED, FailureClass.COLD})
CHAIN_COST_TIMES: Final = 5  # the default limit of a chain: five times its first expected charge ...
CHAIN_COST_AT_LEAST_NUSD: Final = parse_usd("0.01")  # ... never below a cent, and one boot of its ladder's dearest pool


@dataclass(frozen=True, slots=True)
class Attempts:
    """Runs chains. Collaborators are made once by `router.app` and shared by all requests."""

    gatherer: Gatherer
    live: LivePools
    warmups: WarmUps
    accounting: Accounting
    meters: MeteredPools
    backends: Mapping[str, Backend]
    retry_budget: RetryBudget
    events: Fanout
    clock: Clock

    async def run(self, chain: Chain, try_one: TryOne[T]) -> tuple[Attempt, T]:
        """Try candidates until one answers. The attempt that answered is still open: its caller closes it.

        Raises ApiError when nothing can serve or every try failed, and Interrupted; `chain.pending` then holds the
        settlement of the last attempt, if there was one.
        """
        drawn = False
        try:
            while True:
                candidate = await self._next_candidate(chain)
                if _draws(chain, candidate) and not drawn:
                    if not self.retry_budget.allows(chain.limits.retry_budget):
                        raise chain_failed(chain, "too many requests are being retried just now")
                    self.retry_budget.drawn += 1
                    drawn = True
                attempt = await self._begin(chain, candidate)
                backend = self.backends[candidate.pool.name]
                try:
                    with chain.interrupts.armed():
                        answer = await try_one(attempt, backend, upstream_request(chain, candidate, self.clock))
                except AttemptFailed as failure:
                    await self.failed(chain, attempt, failure)
                except Interrupted as stop:
                    await self.interrupted(chain, attempt, stop.cause)
                    raise
                else:
                    self._answering(chain, attempt)
                    return attempt, answer
        finally:
            self.retry_budget.drawn -= drawn

    # -- choosing --------------------------------------------------------------------------------------------------

    async def _next_candidate(self, chain: Chain) -> Candidate:
        """The first candidate, awake. Waits, within the deadline, for a boot found worth it, or for room."""
        if chain.attempts >= chain.limits.max_attempts:
            raise chain_failed(chain, f"{chain.attempts} attempts failed, which is the policy's max_attempts")
        try:
            while True:
                decision = decide(self.gatherer.of_chain(chain))
                candidate, waits = decision.chosen, decision.line is not None
                if candidate is None and not waits and await self._looked_again(chain, decision):
                    continue
                if candidate is None and not waits:
                    self._note_decision(chain, decision)
                    raise self._refuse(chain, decision)
                if candidate is not None and candidate.wait_s <= 0:
                    self._note_decision(chain, decision)
                    return candidate
                if chain.pending is not None:  # its hold would run out in a wait, and its tenant pay for it
                    await self.accounting.settle(chain.pending)
                    chain.pending = None
                elif candidate is None or waits:
                    await self._wait_for_room(chain, decision)
                else:
                    await self._wait_for_boot(chain, decision, candidate)
        finally:
            self._waiting.leave(chain)

    async def _wait_for_room(self, chain: Chain, decision: Decision) -> None:
        self._warm(chain, decision)
        chain.booting = None
        await self._waiting.for_room(chain, decision.lines, chain.first_byte_left_s(self.clock.mono_us()))

    async def _wait_for_boot(self, chain: Chain, decision: Decision, candidate: Candidate) -> None:
        name, left_s = candidate.pool.name, chain.first_byte_left_s(self.clock.mono_us())
        if chain.booting != name:
            chain.booting = name
            chain.spent_nusd += candidate.boot_nusd
        if not await self._waiting.for_boot(chain, name, decision.lines, left_s):
            self._note_decision(chain, decision)
            chain.past.append(PastAttempt(name, FailureClass.TIMEOUT))
            chain.reports.append(self._report(candidate, "cold", f"it did not boot within {left_s:.0f} s", left_s))

    def _note_decision(self, chain: Chain, decision: Decision) -> None:
        chain.decisions.append(decision)
        chosen = decision.chosen
        if chain.cost_limit_nusd is None and chosen is not None:
            chain.cost_limit_nusd = _cost_limit_nusd(chain, chosen)

    async def _looked_again(self, chain: Chain, decision: Decision) -> bool:
        """Whether what is known of budgets was brought up to date, so that it is worth deciding again."""
        try:
            return await self._budgets.refreshed(chain, decision)
        except StoreUnavailable as trouble:
            raise self._store_down(trouble) from None

    @property
    def _budgets(self) -> BudgetRefusals:
        return BudgetRefusals(self.accounting, self.gatherer, self.events)

    @property
    def _waiting(self) -> Waiting:
        return Waiting(self.live, self.warmups)

    def _warm(self, chain: Chain, decision: Decision) -> None:
        if decision.warm is not None and not chain.reports:
            self.warmups.start(decision.warm)

    def _refuse(self, chain: Chain, decision: Decision) -> ApiError:
        self._warm(chain, decision)
        return self._budgets.refusal(chain, decision) or refusal_of(chain, decision)

    # -- one attempt -----------------------------------------------------------------------------------------------

    async def _begin(self, chain: Chain, candidate: Candidate) -> Attempt:
        """Open the hold, and enter the meter with it.

        Raises ApiError `budget_exceeded`, `rate_limit_exceeded` or `store_unavailable`.
        """
        attempt = self._attempt(chain, candidate)
        previous, chain.pending = chain.pending, None
        chain.neighbours = self.live.in_flight(chain.request_class.listed)
        self.live.enter(candidate.pool.name, attempt.hold_id, chain.requirements)
        held = False
        try:
            await self.accounting.begin(attempt, previous)
            held = True
        except BudgetExceeded as refused:
            raise self._budgets.exhausted(chain, refused) from None
        except RateLimited as limited:
            raise self._budgets.limited(chain, limited) from None
        except StoreUnavailable as trouble:
            chain.pending = previous
            raise self._store_down(trouble) from None
        finally:
            if not held:
                self.live.leave(candidate.pool.name, attempt.hold_id)
        chain.attempt, chain.attempts = attempt, attempt.number
        chain.without_store |= attempt.without_store
        chain.anchor_us, chain.standing = attempt.anchor_us, attempt.standing
        if chain.counted_tokens is None:
            chain.counted_tokens = attempt.tokens
        chain.pool, chain.gpu, chain.tier_served = candidate.pool.name, candidate.pool.gpu.id, str(candidate.tier)
        self.accounting.dispatch(attempt)
        return attempt

    def _store_down(self, trouble: StoreUnavailable) -> ApiError:
        self.events.emit(StoreTrouble("reject", str(trouble)))
        return stop_error(Cause.STORE_DOWN)

    def _attempt(self, chain: Chain, candidate: Candidate) -> Attempt:
        needs = chain.requirements
        scopes = chain.scopes(candidate.pool.name)
        tokens = needs.prompt_tokens + needs.expected_output_tokens
        by_tokens = chain.limits.meter_weight == "tokens"
        rate = self.meters.rate(candidate.pool.name)
        return Attempt(
            request_id=chain.request_id,
            number=chain.attempts + 1,
            pool=candidate.pool,
            rate=rate,
            request_class=needs.request_class,
            tier=needs.tier,
            spender=Spender(chain.caller.tenant, chain.caller.key_id, chain.caller.tags, scopes),
            limits=chain.limits,
            interrupts=chain.interrupts,
            policy_version=chain.policy.version,
            weight=tokens if by_tokens else 1,
            share_nusd_per_h=candidate.share_nusd_per_h,
            expected_charge_nusd=candidate.expected_charge_nusd,
            kv_tokens=needs.kv_tokens(candidate.pool.kv_cache),
            tokens=tokens,
            expected_prompt_tokens=needs.prompt_tokens,
            output_bound=needs.output_bound,
            streamed=chain.streams_up,
            most_nusd=None if rate.tokens is None else _most_nusd(rate.tokens, needs),
            anchor_us=chain.anchor_us,
        )

    def _answering(self, chain: Chain, attempt: Attempt) -> None:
        """A stream's first frame is there. An answer that comes whole says nothing about its first token."""
        if chain.streams_up:
            attempt.ttft_us = self.clock.mono_us() - attempt.dispatched_us
            chain.ttft_us = chain.ttft_us or attempt.ttft_us
            self.live.answering(attempt.pool.name, attempt.ttft_us / US_PER_S)

    # -- endings ---------------------------------------------------------------------------------------------------

    async def answered(self, chain: Chain, attempt: Attempt) -> None:
        """The attempt ended well: its settlement is pending, its charge known."""
        settlement = await self.accounting.close(attempt, "answered", Payer.TENANT)
        self._close(chain, attempt, settlement, "answered", "")
        self.live.leave(attempt.pool.name, attempt.hold_id)
        self.live.answered(attempt.pool.name)

    async def failed(self, chain: Chain, attempt: Attempt, failure: AttemptFailed) -> None:
        """The attempt failed. Raises ApiError when the chain ends with it."""
        rule = FALLBACK[failure.failure]
        name = attempt.pool.name
        # A client that set a shorter deadline than ours has left by its own clock: it pays as one that left.
        paid_as = FailureClass.CLIENT_GONE if failure.by_client_deadline else failure.failure
        payer = chain.policy.failed_attempts[paid_as]
        if failure.failure is FailureClass.BAD_OUTPUT and chain.parsed.json_schema is not None:
            attempt.schema_result = SchemaResult.BROKEN
        attempt.refused = failure.never_ran
        settlement = await self.accounting.close(attempt, str(failure.failure), payer)
        self._close(chain, attempt, settlement, str(failure.failure), failure.detail)
        self.live.leave(name, attempt.hold_id)
        alike = any(past.pool != name and past.failure is failure.failure for past in chain.past)
        needs, began_us = chain.requirements, attempt.dispatched_us
        self.live.failed(name, failure, needs, began_us, chain.limits, failed_alike=alike)
        if failure.failure is FailureClass.MISCONFIGURED:
            self.events.emit(PoolMisconfigured(name, failure.detail))
        rung = next(rung for rung in chain.request_class.ladder if rung.pool.name == name)
        free = kv_tokens_too_few(rung, self.live.state(name))
        chain.past.append(PastAttempt(name, failure.failure, free, attempt.pool.max_model_len))
        seconds = (self.clock.mono_us() - attempt.dispatched_us) / US_PER_S
        chain.reports.append(
            AttemptReport(name, attempt.pool.gpu.id, str(failure.failure), failure.detail, failure.status, seconds)
        )
        if not rule.goes_on:
            refused = failure.failure is FailureClass.CLIENT_ERROR
            why = "the pool refused the request itself" if refused else failure.detail
            raise chain_failed(chain, why, passed_on=failure)
        chain.engines_died += failure.engine_died and failure.status is not None and attempt.ttft_us is None
        if chain.engines_died >= ENGINES_AT_MOST:
            raise chain_failed(chain, f"{chain.engines_died} engines died under this request; no other is put at risk")

    async def interrupted(self, chain: Chain, attempt: Attempt, cause: Cause) -> None:
        """The attempt was ended from outside. What it used is paid by the tenant, unless it was us who ended it."""
        settlement = await self.accounting.close(attempt, str(cause), _payer(chain, cause))
        self._close(chain, attempt, settlement, str(cause), "")
        self.live.leave(attempt.pool.name, attempt.hold_id)

    def _close(self, chain: Chain, attempt: Attempt, settlement: Settlement, outcome: str, detail: str) -> None:
        chain.attempt, chain.pending = None, settlement
        chain.spent_nusd += attempt.charge_nusd
        chain.charged_nusd += settlement.amount_nusd
        duration_us = self.clock.mono_us() - attempt.dispatched_us
        chain.writing_us = None if attempt.ttft_us is None else duration_us - attempt.ttft_us
        self.events.emit(
            AttemptEnded(
                request_id=chain.request_id,
                attempt=attempt.number,
                pool=attempt.pool.name,
                gpu=attempt.pool.gpu.id,
                request_class=attempt.request_class,
                outcome=outcome,
                detail=detail,
                charge_nusd=attempt.charge_nusd,
                duration_us=duration_us,
                ttft_us=attempt.ttft_us,
                schema_result=attempt.schema_result,
                paid_nusd=settlement.amount_nusd,
                house_pays=settlement.rows[0].account == House.FAILED,
                busy_us=attempt.busy_us,
                evidence=attempt.evidence,
            )
        )

    def _report(self, candidate: Candidate, failure: str, detail: str, seconds: float) -> AttemptReport:
        return AttemptReport(candidate.pool.name, candidate.pool.gpu.id, failure, detail, None, seconds)


def _draws(chain: Chain, candidate: Candidate) -> bool:
    """Whether a try counts as a retry. The first move to another pool does not, and neither does coming back to one
    that had no room or no container: it has not tried the request, and is asked in turn, like by those that have just
    come.
    """
    name = candidate.pool.name
    if any(past.pool == name and past.failure in _NEVER_TRIED for past in chain.past):
        return False
    return chain.attempts >= 2 or name == chain.pool


def _most_nusd(price: TokenPrice, needs: Requirements) -> int | None:
    """What an attempt can come to that is billed by the token; None where the client bounded nothing."""
    return price.expected_nusd(needs.prompt_tokens, needs.output_bound) if needs.bounded else None


def _payer(chain: Chain, cause: Cause) -> Payer:
    """Who pays for an attempt that was ended from outside. A stop of ours is like a pool that broke."""
    if cause in (Cause.CUT, Cause.STORE_DOWN):
        return Payer.TENANT
    failure = FailureClass.CLIENT_GONE if cause is Cause.CLIENT_GONE else FailureClass.UNAVAILABLE
    return chain.policy.failed_attempts[failure]


def stated_cost_limit_nusd(limits: Limits) -> int | None:
    """What all attempts of a chain may cost together, where the policy says so."""
    return None if limits.chain_cost_limit_usd is None else parse_usd(limits.chain_cost_limit_usd)


def _cost_limit_nusd(chain: Chain, first: Candidate) -> int:
    """The same, where it does not. One boot is in it: without room for it, a request whose warm pool failed could not
    move to any pool that is asleep.
    """
    several_nusd = max(CHAIN_COST_TIMES * first.expected_charge_nusd, CHAIN_COST_AT_LEAST_NUSD)
    return several_nusd + chain.request_class.dearest_boot_nusd
