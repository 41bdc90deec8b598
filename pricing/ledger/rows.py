"""The rows of the ledger.

A `LedgerRow` is money: it belongs to one account, a tenant or the house, and is never changed. A `RequestRow` is the
summary of one request and holds no amount. Row ids are `request:attempt:kind`, made by the caller, so that writing a
row twice writes it once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

WITHOUT_STORE: Final = "__store_down__"
"""Tag of rows whose attempts a replica let run, or go on, while its budget store was down. No file can give it."""

RECONCILED: Final = "reconciled:"
"""What the outcome of an adjustment begins with that brings a pool's hour to the provider's bill; the resource follows.
Its `metered_nusd` is what the provider's meter said beyond the adjustments before it."""


class RowKind(StrEnum):
    ATTEMPT = "attempt"  # a request's share of busy time, charged to its tenant or to the house
    OVERRUN = "overrun"  # what the meter said beyond a hold that was cut
    LATE = "late"  # amount 0: the metered figure of a hold that had expired and was settled as estimated
    BOOT = "boot"  # container seconds before ready
    IDLE = "idle"  # container seconds with nothing to serve
    ADJUSTMENT = "adjustment"  # difference when container counts were learnt late


class Evidence(StrEnum):
    """What the container time, or the tokens, that an amount rests on are known by."""

    OBSERVED = "observed"  # a platform listed these containers all the while; an API said what it bills
    MODELLED = "modelled"  # what answers and the files let us believe: nobody lists them, or no list came in time


class SchemaResult(StrEnum):
    """Whether an answer kept to the JSON schema that was asked for."""

    KEPT = "kept"
    BROKEN = "broken"
    CUT = "cut"  # by the client's own `max_tokens`: nobody can tell


class House(StrEnum):
    """Accounts that carry what no tenant caused. No tenant may take such a name."""

    BOOT = "__boot__"
    IDLE = "__idle__"
    OVERRUN = "__overrun__"
    ADJUSTMENT = "__adjustment__"
    FAILED = "__failed__"  # failed attempts that the policy lets the house pay


class LedgerRow(msgspec.Struct, frozen=True):
    """One row of money. Amounts are nano-dollars, durations microseconds.

    `account` pays `amount_nusd`; `tenant` is who asked (None for boot, idle and pool-wide adjustments). `metered_nusd`
    is what the meter said, before a hold bounded it. `duration_us` is dispatch to end for attempts, container time for
    boot and idle. `estimated` marks amounts that no meter measured. `boots` is how many containers began to boot in
    the time that a boot row is of.
    """

    row_id: str
    at_us: int
    kind: RowKind
    account: str
    amount_nusd: int
    metered_nusd: int
    pool: str
    gpu: str
    model: str
    policy_version: str
    price_books: str
    tenant: str | None = None
    key_id: str | None = None
    request_id: str | None = None
    attempt: int = 0  # starts at 1
    request_class: str | None = None
    tier: str | None = None
    outcome: str = ""  # "answered", or the failure class, or "cut"
    duration_us: int = 0
    ttft_us: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimated: bool = False
    tags: tuple[str, ...] = ()
    schema_result: SchemaResult | None = None  # None: no schema was asked for, or there was no whole answer to judge
    evidence: Evidence = Evidence.MODELLED
    boots: int = 0
    cached_prompt_tokens: int = 0  # of the prompt's, as `usage` said: what the provider's cache had, and charges less


class RequestRow(msgspec.Struct, frozen=True):
    """The summary of one request, for reports and `explain ID`. No amount: money is in the attempt rows.

    `decisions_json` is a JSON array: the decision before each attempt, as `policies.explain.record` writes it.
    """

    request_id: str
    at_us: int
    tenant: str
    key_id: str
    endpoint: str
    model_asked: str
    request_class: str
    tier_asked: str
    tier_served: str | None
    pool: str | None  # where it was tried last
    outcome: str  # "served", "refused", "broken", "client_gone"
    status: int
    error_code: str | None
    attempts: int
    stream: bool
    duration_us: int
    prompt_tokens: int | None
    completion_tokens: int | None
    baseline_nusd: int | None  # what the class's premium pool would have been expected to charge
    policy_version: str
    decisions_json: bytes
    tags: tuple[str, ...] = ()
    schema_asked: bool = False  # the request came with a JSON schema; attempt rows say how it was kept
    continued: int = 0  # how often its stream broke and went on at another pool ...
    continued_by_text: int = 0  # ... of which from its text, which is not exact
    max_tokens: int | None = None  # the bound that the client asked for, of each sequence; None: it asked for none
    sequences: int = 1  # answers asked for: `n` to each prompt; `completion_tokens` is that of all together
    features: tuple[str, ...] = ()  # vision, tools, json_schema, logprobs: what was asked for, in alphabetical order
    images: int = 0  # pictures that came
    clips: int = 0  # clips that came
    video_us: int = 0  # how long those clips play, together
    media_pixels: int = 0  # of all frames of all pictures and clips that came
    model: str = ""  # of `pool`
    gpu: str = ""  # of `pool`
    cached_prompt_tokens: int = 0  # of the prompt's, as the `usage` of the answer said; 0 where it does not say
