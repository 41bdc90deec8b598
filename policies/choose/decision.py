"""A decision as a value: the ordered candidates, every rejected pool with its reason, and what to warm.

These are msgspec structs because a frozen dataclass takes ten times as long to make, and `decide` makes one per pool.
A candidate refers to nothing that could refer back, so the garbage collector need not look at it (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from policies.policy import Objective
from policies.requirements import Requirements, Tier
from pools.spec import PoolSpec

Numbers = Mapping[str, float | int | str]


class Reason(StrEnum):
    """Why a pool was rejected. `docs/errors.md` explains each."""

    CLASS = "class"  # not on the class's ladder
    TIER = "tier"  # listed below the tier asked for
    NOT_PINNED = "not_pinned"  # the client named another pool
    FEATURE = "feature"
    CONTEXT = "context"  # max_model_len is short of prompt + output
    MEMORY = "memory"  # does not fit its memory, alone or beside what is running
    TOO_LARGE = "too_large"  # a picture or clip that does not fit beside the pool's weights
    OVERLOADED = "overloaded"  # it said so a moment ago
    BREAKER = "breaker"
    SHAPE = "shape"  # this shape ran out of memory there
    SATURATED = "saturated"  # at max_concurrency × containers
    QUEUED = "queued"  # others wait for room there and came first
    DRAINED = "drained"
    NOT_DEPLOYED = "not_deployed"
    DEADLINE = "deadline"  # the first token cannot come in time
    BUDGET = "budget"
    CHAIN_COST = "chain_cost"
    ALREADY_FAILED = "already_failed"
    TOKENIZER = "tokenizer"  # cannot go on where another pool's stream broke


FOR_ROOM: Final = frozenset({Reason.MEMORY, Reason.OVERLOADED, Reason.SATURATED, Reason.QUEUED})
"""Reasons that are worth waiting for: they end when a request that runs there ends, or in a moment."""

NO_LINES: Final[Mapping[str, int]] = MappingProxyType({})


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A pool that can serve. Money in nano-dollars, times in seconds.

    `expected_bill_nusd` is what the provider's bill grows by; `expected_charge_nusd` the tenant's expected share of
    busy time; `wait_s` seconds until a container is ready (0 when warm); `cold` says that trying it buys a boot, which
    costs `boot_nusd`. `preference` is 0, or higher for pools that come last after a failed attempt: candidates are
    sorted by preference, then by score.

    `cache_saves_s` and `cache_saves_nusd` are what the session's cache there is expected to save
    (`policies.choose.affinity`). The score has them taken off; all other numbers are as without a cache, since it may
    be gone.
    """

    pool: PoolSpec
    tier: Tier
    expected_bill_nusd: int
    expected_charge_nusd: int
    expected_s: float  # dispatch to last token
    ttft_s: float  # dispatch to first token, expected
    ttft_p95_s: float
    wait_s: float
    cold: bool
    share_nusd_per_h: int  # predicted share of the pool's rate, for holds
    score: float  # what the objective sorted by
    boot_nusd: int = 0
    preference: int = 0
    cache_saves_s: float = 0.0
    cache_saves_nusd: int = 0


class Rejection(msgspec.Struct, frozen=True):
    """A pool that cannot serve. `numbers` are those of its reason; `explain` turns both into a sentence."""

    pool: str
    reason: Reason
    numbers: Numbers


class Decision(msgspec.Struct, frozen=True):
    """Every configured pool is in exactly one of `candidates` and `rejected`.

    `tier` is the tier in force; `lowered_by` is the cap whose threshold has lowered it from the one asked for.
    `warm` names the pool to wake when no candidate can answer within the deadline because all are cold; `warm_s` is its
    expected boot.

    `line` is set where the request waits for room in a pool that is full, rather than for the first candidate's boot or
    for nothing: what that pool would cost and take, with `wait_s` seconds until it should have room. `lines` has the
    pools in whose lines the request stands while it waits, for room or for a boot, and how many come first in each.
    """

    requirements: Requirements
    tier: Tier
    objective: Objective
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    warm: str | None
    warm_s: float
    policy_version: str
    price_books: tuple[str, ...]
    decided_us: int
    lowered_by: str | None = None
    line: Candidate | None = None
    lines: Mapping[str, int] = NO_LINES

    @property
    def chosen(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None
