"""What happened, as frozen records with units in their names, and the protocol of those who listen.

Records carry names, numbers and classes of failure; never prompts, completions, keys or secrets. The sinks stand beside
this file: `metrics.py` and `log.py`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from policies.predict.expect import Ground
from pricing.ledger.rows import Evidence, SchemaResult


class AttemptEnded(msgspec.Struct, frozen=True):
    """One attempt is over. `attempt` starts at 1; `outcome` is `answered`, `cut` or a failure class.

    `charge_nusd` is what it cost, `paid_nusd` its tenant's part of that; the house bears the rest, all of it where
    `house_pays`. `busy_us` is container time, 0 where tokens are billed.
    """

    request_id: str
    attempt: int
    pool: str
    gpu: str
    request_class: str
    outcome: str
    detail: str
    charge_nusd: int
    duration_us: int
    ttft_us: int | None
    schema_result: SchemaResult | None = None  # None: no JSON schema was asked for, or no answer could be judged
    paid_nusd: int = 0
    house_pays: bool = False
    busy_us: int = 0
    evidence: Evidence = Evidence.MODELLED


class RequestEnded(msgspec.Struct, frozen=True):
    """One request is over, settled and answered. `outcome` is `served`, `refused`, `broken` or `client_gone`."""

    request_id: str
    tenant: str
    key_id: str
    endpoint: str
    request_class: str
    tier: str
    pool: str | None
    outcome: str
    status: int
    error_code: str | None
    attempts: int
    stream: bool
    duration_us: int
    ttft_us: int | None
    charge_nusd: int
    prompt_tokens: int | None
    completion_tokens: int | None
    expected_tokens: int | None = None  # what the answer was expected to have at the median ...
    p90_tokens: int | None = None  # ... and at the 90th percentile
    expected_from: Ground | None = None  # what that was drawn from
    lowered_by: str | None = None  # the cap that lowered its tier
    at_us: int = 0  # wall instant at which it came
    model: str = ""  # of the pool, as the catalogue names it
    engine: str = ""
    baseline_nusd: int | None = None  # what the class's premium pool would have charged; None: nobody can say
    writing_us: int | None = None  # from its first token to its end, of one stream that one pool wrote
    trace_id: str | None = None  # of the trace that the client's request belongs to


class StreamContinued(msgspec.Struct, frozen=True):
    """A stream that broke goes on at `pool`. `how` is `tokens`, which is exact, or `text`."""

    request_id: str
    request_class: str
    pool: str
    how: str


class PolicyReloaded(msgspec.Struct, frozen=True):
    """A changed set of files was taken: `version` is in force, where `before` was."""

    version: str
    before: str


class PolicyRefused(msgspec.Struct, frozen=True):
    """A changed set of files was refused for its `problems`: `in_force` stays."""

    in_force: str
    problems: tuple[str, ...]


class PoolMisconfigured(msgspec.Struct, frozen=True):
    """A pool refused in a way that only an operator can mend."""

    pool: str
    detail: str


class StoreTrouble(msgspec.Struct, frozen=True):
    """The budget store could not be reached; `decision` is what was made of it."""

    decision: str
    detail: str


class StoreBack(msgspec.Struct, frozen=True):
    """The budget store is up again, and has all that was kept for it. `down_s` is how long it was not."""

    down_s: float


class CapWarned(msgspec.Struct, frozen=True):
    """A cap passed its warning threshold, said once per window."""

    cap: str
    scope: str
    window: str
    spent_nusd: int
    amount_nusd: int


class CapExhausted(msgspec.Struct, frozen=True):
    """A cap had no room for a request, which was refused."""

    cap: str
    scope: str
    window: str
    spent_nusd: int
    held_nusd: int
    amount_nusd: int
    needed_nusd: int


class RateLimitHit(msgspec.Struct, frozen=True):
    """A request was refused by the rate limit of `scope`. `dimension`: requests, tokens, in_flight."""

    tenant: str
    key_id: str
    scope: str
    dimension: str
    limit: int


Event = (
    AttemptEnded
    | RequestEnded
    | StreamContinued
    | PolicyReloaded
    | PolicyRefused
    | PoolMisconfigured
    | StoreTrouble
    | StoreBack
    | CapWarned
    | CapExhausted
    | RateLimitHit
)


class Sink(Protocol):
    """Listens to every event, on the event loop; must not wait or raise."""

    def emit(self, event: Event) -> None: ...


class Fanout:
    """Hands each event to every sink, in order."""

    def __init__(self, sinks: tuple[Sink, ...]) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        for sink in self._sinks:
            sink.emit(event)
