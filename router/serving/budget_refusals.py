"""Refusing a request for its budgets or rate limits: never from an old view, and with a way out where there is one."""

from __future__ import annotations

from dataclasses import dataclass

from policies.choose.decision import Decision, Reason, Rejection
from pricing.errors import BudgetExceeded, RateLimited
from router.errors import ApiError
from router.money.accounting import Accounting
from router.serving.chain import Chain
from router.serving.gather import Gatherer
from router.serving.rates import standing_of_refusal
from router.serving.refusals import budget_refusal, rate_refusal, tier_that_fits
from router.telemetry.events import CapExhausted, Fanout, RateLimitHit


@dataclass(frozen=True, slots=True)
class BudgetRefusals:
    """What is refused is told to those who listen, too."""

    accounting: Accounting
    gatherer: Gatherer
    events: Fanout

    async def refreshed(self, chain: Chain, decision: Decision) -> bool:
        """Bring what is known of budgets up to date, once for a request that they would refuse.

        Returns whether that was done, so that it is worth deciding again. Raises StoreUnavailable.
        """
        over = _over_budget(decision)
        if chain.budgets_refreshed or not over:
            return False
        chain.budgets_refreshed = True
        await self.accounting.refresh(list(dict.fromkeys(scope for one in over for scope in chain.scopes(one.pool))))
        return True

    def refusal(self, chain: Chain, decision: Decision) -> ApiError | None:
        """Why the caps refuse a request for which no pool is left; None where it is not for them."""
        for one in _over_budget(decision):
            refused = self.accounting.refusal(chain.scopes(one.pool), int(one.numbers["needed_nusd"]))
            if refused is not None:
                return self.exhausted(chain, refused)
        return None

    def exhausted(self, chain: Chain, refused: BudgetExceeded) -> ApiError:
        """A cap has no room: the error, with a cheaper tier where one would fit."""
        short = refused.shortfall
        self.events.emit(
            CapExhausted(
                cap=short.cap,
                scope=short.scope,
                window=short.window,
                spent_nusd=short.spent_nusd,
                held_nusd=short.held_nusd,
                amount_nusd=short.amount_nusd,
                needed_nusd=short.needed_nusd,
            )
        )
        cheaper = tier_that_fits(self.gatherer.of_chain(chain), short.left_nusd)
        return budget_refusal(refused, self.accounting.now_us(), cheaper)

    def limited(self, chain: Chain, limited: RateLimited) -> ApiError:
        """A rate limit has no room."""
        chain.standing = standing_of_refusal(limited)
        caller = chain.caller
        self.events.emit(RateLimitHit(caller.tenant, caller.key_id, limited.scope, limited.dimension, limited.limit))
        return rate_refusal(limited)


def _over_budget(decision: Decision) -> list[Rejection]:
    return [one for one in decision.rejected if one.reason is Reason.BUDGET]
