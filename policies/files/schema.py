"""The shape of a policy file: every key that ops may write, with its unit in the name.

Shapes only say what one value may be; what the values mean together (does that pool exist, does anything serve this
tier) is checked by `policies.compile.load`. No message of these shapes repeats a value that could be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from policies.files.schema_values import (
    WELL_KNOWN_KEYS,
    Allowance,
    Amount,
    ExactDollars,
    FileName,
    Name,
    Permille,
    Rate,
    ScopeText,
    Seconds,
    Share,
    Usd,
    VariableName,
    WindowText,
)
from policies.policy import Durability, Objective, OnExhausted, OnStoreDown, Payer, WebhookEvent
from policies.predict.expect import OutputTokens
from policies.requirements import Tier
from pools.failures.classes import FailureClass

HOW_TO_HASH: Final = 'write its SHA-256 as `sha256:`, from: printf %s "$KEY" | sha256sum'
HOW_TO_MAKE: Final = f"make a key with: KEY=$(openssl rand -hex 24); then {HOW_TO_HASH}"


class Shape(BaseModel):
    """Unknown keys are refused: a misspelt key must not be a key that does nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BreakerShape(Shape):
    failures: int | None = Field(
        default=None, ge=1, description="failures within window_s that open the breaker; default 5"
    )
    window_s: Seconds | None = Field(default=None, description="default 30")
    half_open_after_s: Seconds | None = Field(
        default=None, description="seconds until one probe is let through; default 15"
    )


class LimitKeys(Shape):
    """The policy keys. Under `defaults:` they hold for every class, in a class for that class."""

    first_byte_deadline_s: Seconds | None = Field(default=None, description="ends the choosing; default 120")
    max_total_s: Seconds | None = Field(default=None, description="ends the answer; default 600")
    connect_timeout_s: Seconds | None = Field(default=None, description="default 5")
    stall_timeout_s: Seconds | None = Field(default=None, description="longest silence between tokens; default 20")
    first_token_timeout_s: Seconds | None = Field(
        default=None, description="one attempt's; default 5 times the predicted 95th percentile, at least 10"
    )
    max_attempts: int | None = Field(default=None, ge=1, le=20, description="default 4")
    chain_cost_limit_usd: ExactDollars | None = Field(
        default=None,
        description="dollars of all attempts of one request; default 5 times what the first should cost, at least 0.01",
    )
    retry_budget: Share | None = Field(
        default=None, description="share of live traffic that may be retries; default 20%"
    )
    breaker: BreakerShape | None = None
    shape_cooldown_s: Seconds | None = Field(default=None, description="after out-of-memory; default 300")
    on_exhausted: OnExhausted | None = Field(
        default=None, description="an answer that outgrows its budget; default cut"
    )
    on_store_down: OnStoreDown | None = Field(
        default=None, description="requests while the budget store is down; allow needs store: allowance_usd"
    )
    hold_tick_s: Seconds | None = Field(default=None, description="how often holds are extended; default 1")
    hold_lease_s: Seconds | None = Field(default=None, description="life of a hold that nobody extends; default 30")
    output_bound_default: int | None = Field(default=None, ge=1, description="tokens, without max_tokens; default 1024")
    waiting_usd_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="what `balanced` takes an hour of waiting for; default 1.00"
    )
    meter_weight: Literal["request", "tokens"] | None = Field(default=None, description="default request")
    buffer: bool | None = Field(
        default=None, description="hold a streamed answer back until it keeps to its JSON schema; default false"
    )


class RateLimitsShape(Shape):
    """How much may be asked for. Under a tenant or a key; under `defaults:` for every tenant that says nothing else."""

    requests_per_minute: Rate | None = Field(default=None, description="requests that begin; default unlimited")
    tokens_per_minute: Rate | None = Field(
        default=None, description="prompt and answer tokens of the requests that begin; default unlimited"
    )
    in_flight: Rate | None = Field(default=None, description="requests that run at once; default unlimited")


class DefaultKeys(LimitKeys):
    limits: RateLimitsShape = RateLimitsShape()
    reload_poll_s: Seconds | None = Field(
        default=None, description="how often files are looked at for changes; default 2"
    )


class ClassShape(LimitKeys):
    """One model class. A pool listed in a tier serves that tier and those below."""

    description: str = ""
    objective: Objective = Objective.CHEAPEST
    default_tier: Tier = Tier.STANDARD
    ladder: Mapping[Tier, list[str]]


def _no_plain_key(data: Any) -> Any:
    """Refuse secrets in files, without repeating them."""
    if isinstance(data, Mapping):
        if "sha256" not in data and data.keys() & {"key", "api_key", "secret", "token", "value", "plain"}:
            raise ValueError(f"a key must not stand in a file; {HOW_TO_HASH}")
        digest = data.get("sha256")
        if digest is not None and not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)):
            raise ValueError(f"sha256 must be 64 lower-case hex digits, the hash of a key; {HOW_TO_MAKE}")
        if digest in WELL_KNOWN_KEYS:
            raise ValueError(f"sha256 is that of a key which anybody would try; {HOW_TO_MAKE}")
    return data


def _no_bare_keys(data: Any) -> Any:
    """Refuse `keys: [sk-…]`. Checked on the tenant, because a message about the item would repeat it."""
    keys = data.get("keys") if isinstance(data, Mapping) else None
    if keys is not None and not (isinstance(keys, list) and all(isinstance(key, Mapping) for key in keys)):
        raise ValueError(f"keys is a list of mappings with id and sha256; {HOW_TO_HASH}")
    return data


class KeyShape(Shape):
    """An API key by its hash. `id` is shown in reports."""

    id: Name
    sha256: str
    rights: list[Literal["warmup", "admin"]] = []
    tags: list[Name] = []
    limits: RateLimitsShape = RateLimitsShape()

    _refuse_secrets = model_validator(mode="before")(_no_plain_key)


class RaiseShape(Shape):
    """A temporary raise: the cap's amount until an instant (without an offset: in the files' time zone)."""

    amount_usd: Amount
    until: datetime


class ThresholdsShape(Shape):
    warn: Permille = 800
    lower_tier: Permille = None


class CapShape(Shape):
    """One cap. `scope` is `kind:value`; without one, under a tenant, it is that tenant."""

    name: Name
    amount_usd: Usd
    window: WindowText
    scope: ScopeText | None = None
    thresholds: ThresholdsShape = ThresholdsShape()
    raises: list[RaiseShape] = []


class TenantShape(Shape):
    keys: list[KeyShape] = []
    classes: list[str] | None = None
    tags: list[Name] = []
    caps: list[CapShape] = []
    limits: RateLimitsShape = RateLimitsShape()

    _refuse_secrets = model_validator(mode="before")(_no_bare_keys)


VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|^os\.environ/([A-Za-z_][A-Za-z0-9_]*)$")


def _secrets_by_name(data: Any) -> Any:
    """Keys and headers come from the environment; a literal one is refused, without repeating it."""
    if not isinstance(data, Mapping):
        return data
    headers = data.get("headers")
    named = {"api_key": data.get("api_key"), **(headers if isinstance(headers, Mapping) else {})}
    for name, value in named.items():
        if value is not None and not (isinstance(value, str) and VARIABLE.search(value)):
            raise ValueError(f"{name} must come from the environment: write ${{VARIABLE}} instead of the value")
    return data


def _secret_by_name(data: Any) -> Any:
    """The same for a webhook's secret."""
    secret = data.get("secret") if isinstance(data, Mapping) else None
    if secret is not None and not (isinstance(secret, str) and VARIABLE.search(secret)):
        raise ValueError("secret must come from the environment: write ${VARIABLE} instead of the value")
    return data


class EndpointShape(Shape):
    """Where a pool answers. `always_on` counts containers that are simply there (a plain server)."""

    url: str
    api_key: str | None = None
    headers: Mapping[str, str] = {}
    always_on: int = Field(default=0, ge=0, le=10_000)

    _refuse_secrets = model_validator(mode="before")(_secrets_by_name)


class RouterShape(Shape):
    """The router itself on Modal, as `sluice deploy` makes it of these files."""

    secrets: Mapping[Name, list[VariableName]] = Field(
        min_length=1, description="Modal Secrets by name, and the variables that each holds"
    )
    min_containers: int = Field(default=2, ge=0, le=10_000, description="alive whatever comes, at least 1")
    max_containers: int = Field(default=4, ge=1, le=10_000, description="alive at most")
    target_concurrency: int = Field(
        default=100, ge=1, le=100_000, description="running requests a container to scale by"
    )
    max_concurrency: int = Field(
        default=400, ge=1, le=100_000, description="above it a container's requests get Modal's 429"
    )
    cpu_cores: float = Field(default=1.0, ge=0.125, le=64, description="physical cores of a container")
    memory_gib: float = Field(default=1.0, ge=0.25, le=336, description="of a container")
    region: str | None = Field(default=None, description="where containers run; a pinned one has its price")
    nonpreemptible: bool = Field(default=False, description="never taken away, at a multiple of the price")
    proxy_auth: bool = Field(default=False, description="whether callers need Modal's proxy token too")


class ModalShape(Shape):
    """Pools on Modal: where and under which names. Tokens come from the environment, as Modal's own tools take them."""

    environment: str | None = Field(default=None, min_length=1, description="of Modal's; default the account's own")
    app_prefix: Name = Field(default="sluice", description="Apps are called <app_prefix>-<pool>")
    routing_region: str = Field(default="us-east", description="where requests enter Modal")
    weights_volume: Name = Field(default="sluice-weights", description="Volume that keeps downloaded weights")
    cache_volume: Name = Field(default="sluice-compile-cache", description="Volume that keeps compiled kernels")
    secrets: list[Name] = Field(default=[], description="Modal Secrets that containers get, by name")
    tags: Mapping[Name, Name] = Field(default={}, description="onto every App, and so into Modal's billing report")
    router: RouterShape | None = Field(default=None, description="this endpoint on Modal, too: `sluice deploy`")


KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]


class DeploymentShape(Shape):
    """One pool's Deployment."""

    name: KubernetesName
    namespace: KubernetesName | None = Field(default=None, description="default the one of all")
    scale_to_zero: bool = Field(default=False, description="the router starts its first Pod and ends its last one")
    metrics_port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="where each Pod's engine has /metrics; without it no Pod is asked by itself"
    )


def _token_by_name(data: Any) -> Any:
    if isinstance(data, Mapping) and isinstance(data.get("token"), str) and not VARIABLE.search(data["token"]):
        raise ValueError("token must come from the environment: write ${NAME}; a token must not stand in a file")
    return data


class KubernetesShape(Shape):
    """Pools that are Deployments. Without more, the router is taken to run in the same cluster."""

    deployments: Mapping[Name, DeploymentShape] = Field(min_length=1, description="by pool")
    namespace: KubernetesName = Field(default="default", description="of Deployments that name none")
    url: str | None = Field(default=None, description="of the API server; default the one of this cluster")
    token: str | None = Field(default=None, description="of a service account, from the environment")
    token_file: FileName | None = Field(
        default=None, description="read again as it is renewed; default where it is mounted"
    )
    ca_file: FileName | None = Field(
        default=None, description="checks the API server; default the cluster's, or the system's"
    )

    _refuse_tokens = model_validator(mode="before")(_token_by_name)

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are given; keep one of them")
        if self.url is not None and self.token is None and self.token_file is None:
            raise ValueError("url without token or token_file: another cluster does not know this one's account")
        return self


class PlatformShape(Shape):
    """Who runs the pools: a control plane behind a URL, or Modal; and Kubernetes, by itself or beside one of them."""

    url: str | None = None
    modal: ModalShape | None = None
    kubernetes: KubernetesShape | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.url is not None and self.modal is not None:
            raise ValueError("url and modal would both run all pools; keep one of them")
        if self.url is None and self.modal is None and self.kubernetes is None:
            raise ValueError("name a platform: `url: …` of a control plane, `modal: {}`, or `kubernetes: {…}`")
        return self


class StoreShape(Shape):
    """The budget store: what each replica may grant while it is down, and what it must have kept when it answers."""

    allowance_usd: Allowance | None = Field(
        default=None, description="dollars that each replica may grant in one outage, for on_store_down: allow"
    )
    durability: Durability = Field(
        default=Durability.EVERYSEC, description="the weakest appendfsync of Redis that is not warned of"
    )


class WebhookShape(Shape):
    """Where events are told. The secret signs what is sent, and comes from the environment."""

    url: str
    secret: str
    events: list[WebhookEvent] = Field(
        default=list(WebhookEvent), min_length=1, description="what is told there; default all"
    )

    _refuse_secrets = model_validator(mode="before")(_secret_by_name)


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML 1.1 reads a bare off as false


class PredictShape(Shape):
    """What the expected length of an answer is drawn from; it sizes a request's first hold and its time."""

    output_tokens: Annotated[OutputTokens, BeforeValidator(_off)] = Field(
        default=OutputTokens.HISTORY, description="off: the prior alone; history: what answers came to; model: a file"
    )
    file: FileName | None = Field(
        default=None, description="what `sluice train` wrote, relative to this file; for model"
    )


class PolicyFile(Shape):
    """One file. Several files of one folder are one set; the sections add up and no key may stand in two files."""

    version: Literal[1]
    standalone: bool = Field(
        default=False,
        description="a whole policy of its own: a folder does not add it to its set; name the file to use it",
    )
    description: str = ""
    price_book: str | list[str] | None = Field(
        default=None, description="book id, or several that follow one another in time"
    )
    price_books: list[FileName] = Field(default=[], description="more books: files or folders, relative to this file")
    timezone: str | None = Field(default=None, description="of calendar windows and of `until:`; default UTC")
    defaults: DefaultKeys = DefaultKeys()
    aliases: Mapping[str, str] = {}
    classes: Mapping[Name, ClassShape] = {}
    tenants: Mapping[Name, TenantShape] = {}
    caps: list[CapShape] = []
    endpoints: Mapping[str, EndpointShape] = {}
    drained: list[str] = []
    platform: PlatformShape | None = None
    store: StoreShape = StoreShape()
    predict: PredictShape | None = None
    failed_attempts: Mapping[FailureClass, Payer] = {}
    webhooks: list[WebhookShape] = []
    pools: Any = Field(default=None, description="rows added to the pool catalogue, see docs/catalogue.md")
    models: Any = Field(default=None, description="rows added to the model catalogue")
    gpus: Any = Field(default=None, description="rows added to the GPU catalogue")
