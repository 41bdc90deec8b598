"""Gathering the facts of a decision from memory: pool states, room in the caps, what the request may still spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from policies.choose.facts import CachedPrefix, Facts, PastAttempt
from policies.policy import Policy, RequestClass
from policies.requirements import Requirements
from pools.live.all_pools import LivePools
from pools.live.waiting_lines import Ticket
from pricing.budgets.store import BudgetStore, Room
from pricing.clock import Clock
from router.inbound.callers import Caller
from router.serving.chain import Chain

_NO_ROOMS: Final[dict[str, Room]] = {}


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Reads only memory, so that a decision takes microseconds."""

    live: LivePools
    store: BudgetStore
    clock: Clock

    def of_chain(self, chain: Chain) -> Facts:
        """The facts of a request on its way: its deadline shrinks as it waits, its money as it fails."""
        left_s = chain.first_byte_left_s(self.clock.mono_us())
        return self.facts(
            replace(chain.requirements, deadline_s=left_s),
            chain.request_class,
            chain.caller,
            chain.policy,
            chain.endpoint,
            None if chain.cost_limit_nusd is None else max(0, chain.cost_limit_nusd - chain.spent_nusd),
            tuple(chain.past),
            chain.ticket,
            chain.booting,
            None if chain.turn is None else chain.turn.cached,
        )

    def facts(
        self,
        requirements: Requirements,
        request_class: RequestClass,
        caller: Caller,
        policy: Policy,
        endpoint: str,
        chain_left_nusd: int | None = None,
        past: tuple[PastAttempt, ...] = (),
        ticket: Ticket | None = None,
        booting: str | None = None,
        cached: CachedPrefix | None = None,
    ) -> Facts:
        """The facts of any request; without a ticket it has just come, and whoever stands in a line came before it."""
        return Facts(
            requirements=requirements,
            request_class=request_class,
            states=self.live.states(),
            room=self.store.room(caller.scopes(request_class.name, endpoint)),
            pool_rooms=self._pool_rooms(policy),
            chain_left_nusd=chain_left_nusd,
            policy_version=policy.version,
            price_books=(policy.price_book,),
            now_us=self.clock.wall_us(),
            past=past,
            ahead=self.live.lines.ahead_of(ticket),
            in_line=() if ticket is None else ticket.pools,
            booting=booting,
            cached=cached,
        )

    def _pool_rooms(self, policy: Policy) -> dict[str, Room]:
        if not policy.caps.pools:
            return _NO_ROOMS
        return {scope.value: self.store.room((scope,)) for scope in policy.caps.pools}
