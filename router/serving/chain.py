"""One request on its way: what it needs, what was decided, what was tried, what it has cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from policies.choose.decision import Decision
from policies.choose.facts import PastAttempt
from policies.policy import Limits, Policy, RequestClass
from policies.requirements import Requirements
from pools.live.waiting_lines import Ticket
from pools.spec import MediaSize
from pricing.budgets.caps import Scope
from pricing.budgets.standing import UNLIMITED
from pricing.budgets.store import Settlement, Standing
from pricing.clock import US_PER_S
from router.inbound.callers import Caller
from router.inbound.request import Parsed
from router.inbound.sessions import Turn
from router.interrupts import Interrupts
from router.money.accounting import Attempt
from router.output.continuation import Broken
from router.output.transcript import Transcript
from router.serving.expectation import Outlook


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What a client may know of an attempt that failed, under `error.metadata.attempts`."""

    pool: str
    gpu: str
    failure: str
    detail: str
    status: int | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "gpu": self.gpu,
            "failure": self.failure,
            "detail": self.detail,
            "status": self.status,
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True, eq=False)
class Chain:
    """The state of one request. Instants are monotonic microseconds of the router's clock.

    `attempt` is the one that runs. `pending` is the settlement of the one that ended last; it is written together with
    the next hold, or with the request's summary, which ends the chain. `client_deadline_us` is the client's own
    deadline, when it gave one shorter than ours.
    """

    request_id: str
    parsed: Parsed
    caller: Caller
    policy: Policy
    request_class: RequestClass
    requirements: Requirements
    interrupts: Interrupts
    started_us: int
    wall_us: int
    first_byte_deadline_us: int
    total_deadline_us: int
    client_deadline_us: int | None
    endpoint: str
    cost_limit_nusd: int | None = None
    decisions: list[Decision] = field(default_factory=list)
    past: list[PastAttempt] = field(default_factory=list)
    reports: list[AttemptReport] = field(default_factory=list)
    attempts: int = 0
    engines_died: int = 0  # under it by their own word, before they answered anything
    without_store: bool = False  # an attempt of it ran on the allowance of a replica whose store was down
    neighbours: int = 0  # other requests of the class running when this one was dispatched
    anchor_us: int = 0
    charged_nusd: int = 0
    spent_nusd: int = 0  # what all attempts cost, whoever pays; the chain's cost limit counts it
    attempt: Attempt | None = None
    pending: Settlement | None = None
    counted_tokens: int | None = None  # against rate limits, by its first hold
    standing: Standing = UNLIMITED  # of its scopes, at its latest hold
    budgets_refreshed: bool = False  # what is known of them was brought up to date before it is refused
    ended: bool = False
    pool: str | None = None
    gpu: str | None = None
    tier_served: str | None = None
    transcript: Transcript | None = None  # of the stream that runs, where another pool could go on with it
    broken: Broken | None = None  # set once its stream broke after it had begun
    turn: Turn | None = None  # of the session that the client named
    outlook: Outlook | None = None  # how long its answer was expected to be
    ticket: Ticket | None = None  # its place among those who wait for room
    booting: str | None = None  # the pool whose boot it waits for
    ttft_us: int | None = None
    writing_us: int | None = None  # from the first token of the attempt that ended last to its end
    trace_parent: str | None = None  # the client's, as it goes up
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0  # of the prompt's
    made: MediaSize | None = None  # each of the pictures or clips that came

    @property
    def limits(self) -> Limits:
        return self.request_class.limits

    @property
    def buffered(self) -> bool:
        """Streamed to the client, but held back until the whole answer is known to keep to its JSON schema."""
        return self.limits.buffer and self.parsed.stream and self.parsed.json_schema is not None

    @property
    def streams_up(self) -> bool:
        """Whether pools are asked to stream."""
        return self.parsed.stream and not self.buffered

    def scopes(self, pool: str | None) -> tuple[Scope, ...]:
        """Every scope that the request spends in, with those of a pool."""
        name = self.request_class.name
        if pool is None:
            return self.caller.scopes(name, self.endpoint)
        return self.caller.scopes_at(name, self.endpoint, pool)

    def note_usage(self, attempt: Attempt) -> None:
        """Take over the tokens of the attempt that ends; after a break, the prompt as it was, and all that was said."""
        self.prompt_tokens, self.completion_tokens = attempt.prompt_tokens, attempt.completion_tokens
        if self.broken is not None:
            self.prompt_tokens = self.broken.prompt_tokens
            self.completion_tokens = self.broken.completion_tokens + (attempt.completion_tokens or 0)
        self.cached_tokens = min(attempt.cached_tokens, self.prompt_tokens or 0)

    def first_byte_left_s(self, now_us: int) -> float:
        """Until the first token must be there: nobody waits for it after the client's own deadline. An answer that has
        begun and broke may take all the time there is.
        """
        until_us = self.first_byte_deadline_us if self.broken is None else self.total_deadline_us
        client_us = self.client_deadline_us
        return ((until_us if client_us is None else min(until_us, client_us)) - now_us) / US_PER_S

    def total_left_s(self, now_us: int) -> float:
        return (self.total_deadline_us - now_us) / US_PER_S
