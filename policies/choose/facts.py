"""The frozen input of a decision: requirements, pool states, budget, policy, time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from policies.policy import RequestClass
from policies.requirements import Requirements
from pools.failures.classes import FailureClass
from pools.live.state import PoolState
from pricing.budgets.store import Room

NOBODY: Final[Mapping[str, int]] = MappingProxyType({})  # nobody waits for any pool


class PastAttempt(msgspec.Struct, frozen=True):
    """An attempt of this request that failed. `free_kv_tokens` is what its pool had free, for out-of-memory."""

    pool: str
    failure: FailureClass
    free_kv_tokens: int = 0
    max_model_len: int = 0


class CachedPrefix(msgspec.Struct, frozen=True):
    """Where the beginning of this request's prompt was processed before: an earlier turn of the same conversation.

    `tokens` is that turn's prompt, which the request's prompt begins with; `used_us` the wall instant at which its
    answer was complete.
    """

    pool: str
    tokens: int
    used_us: int


class Facts(msgspec.Struct, frozen=True):
    """Gathered from memory; `decide` reads nothing else.

    `states` has every configured pool, those of other classes too: each ends up in one list of the decision. `room` is
    what the request's own caps leave; `pool_rooms` what caps on single pools leave. `chain_left_nusd` is what the
    chain's cost limit leaves. `past` are the attempts already made for this request. `ahead` names the pools that
    others wait for who came before it, and how many they are; `in_line` those in whose lines it stands; `booting` the
    pool whose boot it waits for, which is counted in what the chain has spent. `cached` is what its session left in a
    pool's prefix cache, as far as is known.
    """

    requirements: Requirements
    request_class: RequestClass
    states: Mapping[str, PoolState]
    room: Room
    pool_rooms: Mapping[str, Room]
    chain_left_nusd: int | None
    policy_version: str
    price_books: tuple[str, ...]
    now_us: int
    past: tuple[PastAttempt, ...] = ()
    ahead: Mapping[str, int] = NOBODY
    in_line: tuple[str, ...] = ()
    booting: str | None = None
    cached: CachedPrefix | None = None
