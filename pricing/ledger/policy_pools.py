"""The pools that a policy had, and what they cost, for whoever divides an amount of then into GPU, CPU and memory.

A row of money names a pool and a policy version; what the pool was made of by then, no file of today says. Versions
that have the same pools at the same rates share one list, found by its digest, since most edits change neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from pricing.ledger.reader import Reader
from pricing.prices.token_price import TokenPrice


class NotedPool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pool under the price book that was in force for it. Rates are nano-dollars an hour of one container, the
    region's multiplier included; `cpu_cores` are physical cores, memory is GiB, `gpu` the canonical id.

    `tokens` is set for pools that are billed by the token: their rates are 0.
    """

    pool: str
    book: str
    provider: str
    product: str
    gpu: str
    gpu_count: int
    cpu_cores: float
    memory_gib: float
    region: str | None = None
    gpu_nusd_per_h: int = 0
    cpu_nusd_per_h: int = 0
    memory_nusd_per_h: int = 0
    tokens: TokenPrice | None = None


_json: Final = msgspec.json.Decoder(tuple[NotedPool, ...])
_FIND: Final = (
    "SELECT policy_pools.pools FROM policy_versions JOIN policy_pools ON digest = policy_versions.pools "
    "WHERE version = ?"
)
ADD: Final = "INSERT INTO policy_pools (digest, pools) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING"
"""SQL: keep what `as_kept` made."""


def as_kept(pools: Iterable[NotedPool]) -> tuple[str, str]:
    """(digest, JSON) of a policy's pools, whatever order they come in."""
    text = msgspec.json.encode(sorted(pools, key=lambda each: each.pool))
    return hashlib.sha256(text).hexdigest(), text.decode()


def pools_of(ledger: Reader, version: str) -> Collection[NotedPool] | None:
    """The pools of a version; None where nobody noted them, as before ledgers of version 0012."""
    found = ledger.execute(_FIND, [version]).fetchone()
    return None if found is None else _json.decode(found[0])
