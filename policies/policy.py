"""A policy in force: what the files say, compiled once at load into what `decide` and the router read.

`policies.compile.load` makes it from files; it is immutable, swapped as one on reload, and a request keeps the one it
began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from policies.predict.expect import FROM_HISTORY, Prediction
from policies.requirements import Tier
from pools.fit.memory import MemoryFit
from pools.fit.timing import Timing
from pools.kubernetes.settings import KubernetesSettings
from pools.modal.settings import ModalSettings
from pools.spec import ModelSpec, PoolSpec
from pricing.budgets.caps import CapTable
from pricing.clock import US_PER_S
from pricing.prices.rates import ContainerRate

LOCAL_TENANT: Final = "local"
"""Who requests from this machine belong to while a policy names no tenants."""


class Objective(StrEnum):
    LISTED = "listed"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    BALANCED = "balanced"


class OnExhausted(StrEnum):
    CUT = "cut"
    FINISH = "finish"


class OnStoreDown(StrEnum):
    REJECT = "reject"
    ALLOW = "allow"


class Durability(StrEnum):
    """What the shared store must have kept of a step it has answered: Redis's `appendfsync`, `none` for no file."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NONE = "none"


class WebhookEvent(StrEnum):
    """What a webhook may be told."""

    CAP_WARNED = "cap_warned"
    CAP_EXHAUSTED = "cap_exhausted"
    STORE_DOWN = "store_down"


class Payer(StrEnum):
    TENANT = "tenant"
    HOUSE = "house"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    failures: int = 5
    window_s: float = 30.0
    half_open_after_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The policy keys with their defaults; a class may override each. Units are in the names."""

    first_byte_deadline_s: float = 120.0
    max_total_s: float = 600.0
    connect_timeout_s: float = 5.0
    stall_timeout_s: float = 20.0
    first_token_timeout_s: float | None = None  # None: 5 × predicted p95, at least 10
    max_attempts: int = 4
    chain_cost_limit_usd: float | None = None  # None: 5 × expected charge, at least $0.01
    retry_budget: float = 0.2  # share of live traffic, never below 3
    breaker: BreakerSettings = BreakerSettings()
    shape_cooldown_s: float = 300.0
    on_exhausted: OnExhausted = OnExhausted.CUT
    on_store_down: OnStoreDown = OnStoreDown.REJECT
    hold_tick_s: float = 1.0
    hold_lease_s: float = 30.0
    output_bound_default: int = 1024
    waiting_usd_per_hour: float = 1.0
    meter_weight: str = "request"  # or "tokens"
    buffer: bool = False  # hold a streamed answer back until it is known to keep to its JSON schema


@dataclass(frozen=True, slots=True)
class Rung:
    """One pool of a class's ladder, with what never changes between two reloads.

    `order` counts from 0, tier by tier from economy up, in the file's order within a tier. `sequence_tokens` is what
    a running request takes beside its KV cache (the state of linear attention), in KV tokens.
    """

    pool: PoolSpec
    tier: Tier
    order: int
    rate: ContainerRate
    fit: MemoryFit
    boot_s: float
    timing: Timing
    sequence_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RequestClass:
    """A class and its ladder. What every request would otherwise work out anew from the ladder is kept beside it."""

    name: str
    objective: Objective
    default_tier: Tier
    ladder: tuple[Rung, ...]
    limits: Limits
    premium_pool: str  # the baseline that savings are stated against
    description: str = ""
    models: tuple[ModelSpec, ...] = field(init=False, compare=False)  # of the ladder's pools, each once
    listed: frozenset[str] = field(init=False, compare=False)  # names of the ladder's pools
    dearest_boot_nusd: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        models = {rung.pool.model.id: rung.pool.model for rung in self.ladder}
        boots = (rung.rate.cost_nusd(boot_us=round(rung.boot_s * US_PER_S)) for rung in self.ladder)
        object.__setattr__(self, "models", tuple(models.values()))
        object.__setattr__(self, "listed", frozenset(rung.pool.name for rung in self.ladder))
        object.__setattr__(self, "dearest_boot_nusd", max(boots, default=0))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key by its SHA-256 (hex); the key itself is in no file. Rights: `warmup`, `admin`."""

    id: str
    tenant: str
    sha256: str
    rights: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    keys: tuple[ApiKey, ...]
    classes: frozenset[str] | None = None  # None: every class
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolEndpoint:
    """Where a pool answers. `api_key` and header values come from the environment (`${VAR}`), not from the file."""

    pool: str
    url: str
    api_key: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    always_on: int = 0  # containers that are simply there (a plain server); 0: the platform starts and stops them


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events are told. `secret`, from the environment, signs what is sent."""

    url: str = field(repr=False)  # some services put a token into it
    secret: str = field(repr=False)
    events: frozenset[WebhookEvent] = frozenset(WebhookEvent)


@dataclass(frozen=True, slots=True)
class RateChange:
    """Container rates that take effect at an instant to come, because a later price book begins then."""

    at_us: int
    book: str
    rates: Mapping[str, ContainerRate]


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """What the files say of the budget store. `allowance_nusd` is what a replica may grant in one outage."""

    allowance_nusd: int = 0
    durability: Durability = Durability.EVERYSEC


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the files say. `version` is the hash over all of them, short enough for a header."""

    version: str
    price_book: str
    classes: Mapping[str, RequestClass]
    aliases: Mapping[str, str]  # client's model name -> class, class:tier, or pool
    pools: Mapping[str, PoolSpec]
    rates: Mapping[str, ContainerRate]
    rate_changes: tuple[RateChange, ...]
    fits: Mapping[str, MemoryFit]
    boots_s: Mapping[str, float]
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, ApiKey]  # by sha256 hex
    caps: CapTable
    failed_attempts: Mapping[str, Payer]
    endpoints: Mapping[str, PoolEndpoint]
    drained: frozenset[str] = frozenset()
    platform_url: str | None = None  # control plane that lists containers and wakes pools
    modal: ModalSettings | None = None  # instead: the pools are Servers there
    kubernetes: KubernetesSettings | None = None  # beside either, or alone: those pools are Deployments
    reload_poll_s: float = 2.0
    store: StorePolicy = StorePolicy()
    prediction: Prediction = FROM_HISTORY
    webhooks: tuple[Webhook, ...] = ()
    files: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()  # what the files name and simulated pools take the place of
