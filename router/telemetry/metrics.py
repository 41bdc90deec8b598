"""Prometheus metrics, fed by events and by a snapshot of the pools and caps at scrape time. No tenant label by default.

Names and labels follow OpenTelemetry's `gen_ai.*` where it has one, as its exporter writes them, and are `sluice_*` for
money and pools (`docs/metrics.md`). What every request counts is counted by `router.telemetry.counting`; what is rare,
by the client library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from policies.predict.model import OutputModel
from pools.live.state import PoolState
from pricing.clock import US_PER_S
from pricing.money import NUSD_PER_USD
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH
from router.telemetry.budget_gauges import BudgetGauges
from router.telemetry.counting import Counts, Spread, Spreads
from router.telemetry.events import (
    AttemptEnded,
    CapExhausted,
    CapWarned,
    Event,
    PolicyRefused,
    PolicyReloaded,
    PoolMisconfigured,
    RateLimitHit,
    RequestEnded,
    StoreTrouble,
    StreamContinued,
)
from router.telemetry.house_counters import HouseCounters
from router.telemetry.pool_gauges import PoolGauges
from router.telemetry.tenant_counters import TenantCounters

# The boundaries of OpenTelemetry's conventions (semantic-conventions-genai, gen-ai-metrics.md); seconds beyond theirs
# are ours, since a request may wait for a boot of minutes.
DURATION_S: Final = (*(0.01 * 2**power for power in range(14)), 163.84, 327.68, 655.36)
FIRST_TOKEN_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 320.0),
)
OUTPUT_TOKEN_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS: Final = tuple(4**power for power in range(14))

_COMMON: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
_OPERATIONS: Final = {CHAT_PATH: "chat", "/generate": "chat", COMPLETIONS_PATH: "text_completion"}
_MEDIA: Final = "generate_content"
NO_PROVIDER: Final = "sluice"  # no pool answered: we did


class _Alike(NamedTuple):
    """Where requests are counted that have all labels in common; a look-up of one instead of five."""

    duration: Spread
    first_token: Spread | None  # None: no pool
    output_token: Spread | None
    tokens_in: Spread | None
    tokens_out: Spread | None


class GenAi:
    """The histograms that OpenTelemetry names. Belongs to the event loop."""

    def __init__(self) -> None:
        pool = (*_COMMON, "pool")
        self._duration = Spreads(
            "gen_ai_server_request_duration_seconds",
            "Whole requests.",
            (*_COMMON, "error_type"),
            DURATION_S,
            per=US_PER_S,
        )
        self._first = Spreads(
            "gen_ai_server_time_to_first_token_seconds",
            "Dispatch to first token, of requests that were served.",
            pool,
            FIRST_TOKEN_S,
            per=US_PER_S,
        )
        self._each = Spreads(
            "gen_ai_server_time_per_output_token_seconds",
            "From token to token after the first, of streams that were served.",
            pool,
            OUTPUT_TOKEN_S,
            per=US_PER_S,
        )
        self._tokens = Spreads(
            "gen_ai_client_token_usage", "Tokens of a request.", (*_COMMON, "gen_ai_token_type"), TOKENS
        )
        # One for each set of labels ever seen; all of their values are from files or tables of ours.
        self._alike: dict[tuple[str, str, str | None, str, str, str], _Alike] = {}

    def ended(self, event: RequestEnded) -> None:
        served = event.outcome == "served"
        error = "" if served else event.error_code or event.outcome
        key = (event.endpoint, event.request_class, event.pool, event.engine, event.model, error)
        alike = self._alike.get(key) or self._new(*key)
        alike.duration.observe(event.duration_us)
        tokens = event.completion_tokens
        if event.prompt_tokens is not None and alike.tokens_in is not None:
            alike.tokens_in.observe(event.prompt_tokens)
        if tokens is not None and alike.tokens_out is not None:
            alike.tokens_out.observe(tokens)
        if served and event.ttft_us is not None and alike.first_token is not None and alike.output_token is not None:
            alike.first_token.observe(event.ttft_us)
            if event.writing_us is not None and tokens is not None and tokens > 1:
                alike.output_token.observe(event.writing_us // (tokens - 1))

    def lines(self) -> Iterator[str]:
        for spreads in (self._duration, self._first, self._each, self._tokens):
            yield from spreads.lines()

    def _new(self, endpoint: str, request_class: str, pool: str | None, engine: str, model: str, error: str) -> _Alike:
        common = (_OPERATIONS.get(endpoint, _MEDIA), engine or NO_PROVIDER, request_class, model)
        if pool is None:
            alike = _Alike(self._duration.of(*common, error), None, None, None, None)
        else:
            alike = _Alike(
                self._duration.of(*common, error),
                self._first.of(*common, pool),
                self._each.of(*common, pool),
                self._tokens.of(*common, "input"),
                self._tokens.of(*common, "output"),
            )
        self._alike[endpoint, request_class, pool, engine, model, error] = alike
        return alike


class MetricsSink:
    """Counts events. `registry` has what is not counted by `router.telemetry.counting`; it is the service's own, so
    that several can live in one process.

    `tenants` is how many of them have series of their own.
    """

    def __init__(self, states: Callable[[], Mapping[str, PoolState]], tenants: int = 0) -> None:
        self.registry = CollectorRegistry()
        # For each counter and histogram a second one, of when it began: nobody asks, and it doubles the scrape.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it
        self._gen_ai = GenAi()
        self.house = HouseCounters()
        self._tenants = TenantCounters(tenants) if tenants else None
        self._counted: list[Counts] = []
        self._count_requests()
        self._count_attempts()
        self._count_rare()
        self.budgets = BudgetGauges()
        self.registry.register(PoolGauges(states))
        self.registry.register(self.budgets)

    def _counts(self, name: str, text: str, labels: list[str], *, per: int = 1) -> Counts:
        counts = Counts(name, text, labels, per=per)
        self._counted.append(counts)
        return counts

    def _count_requests(self) -> None:
        money, counts = NUSD_PER_USD, self._counts
        self._requests = counts(
            "sluice_requests_total", "Requests ended.", ["class", "tier", "outcome", "code", "status"]
        )
        self._fallbacks = counts(
            "sluice_fallbacks_total", "Requests that took more than one attempt.", ["class", "outcome"]
        )
        self._baseline = counts(
            "sluice_baseline_usd_total", "What requests would have been charged on premium pools.", ["class"], per=money
        )
        self._compared = counts("sluice_baseline_charged_usd_total", "What they were charged.", ["class"], per=money)
        self._predicted = counts(
            "sluice_output_predictions_total",
            "Answers beside what was expected of them.",
            ["class", "ground", "level", "result"],
        )
        self._lowered = counts("sluice_tier_lowered_total", "Requests whose tier a budget lowered.", ["class"])

    def _count_attempts(self) -> None:
        money, counts = NUSD_PER_USD, self._counts
        self._attempts = counts("sluice_attempts_total", "Attempts ended.", ["pool", "outcome"])
        self._costs = counts(
            "sluice_attempts_usd_total", "What attempts cost, whoever pays for them.", ["pool", "outcome"], per=money
        )
        self._charged = counts("sluice_charged_usd_total", "Charged to tenants.", ["pool"], per=money)
        self._schemas = counts(
            "sluice_schema_answers_total", "Answers to requests with a JSON schema.", ["pool", "result"]
        )

    def _count_rare(self) -> None:
        make: dict[str, Any] = {"registry": self.registry}
        self._continued = Counter("sluice_streams_continued", "Broken streams that went on.", ["how"], **make)
        self._reloads = Counter("sluice_config_reloads", "Changed files taken or refused.", ["result"], **make)
        self._policy = Gauge("sluice_config_info", "1 for the policy in force.", ["version"], **make)
        self._model = Gauge(
            "sluice_output_model_trained_timestamp_seconds", "When the model in force was trained.", ["version"], **make
        )
        self._misconfigured = Counter(
            "sluice_pool_misconfigured", "Refusals only an operator can mend.", ["pool"], **make
        )
        self._store_trouble = Counter("sluice_store_trouble", "Budget store not reached.", ["decision"], **make)
        self._cap_warnings = Counter("sluice_cap_warnings", "Caps past their warning threshold.", **make)
        self._cap_refusals = Counter("sluice_cap_refusals", "Requests that a cap had no room for.", **make)
        self._rate_limited = Counter(
            "sluice_rate_limited", "Requests that a rate limit refused.", ["dimension"], **make
        )
        self._looks = Counter("sluice_platform_looks", "Lists of containers asked for.", ["result"], **make)
        for result in ("listed", "failed"):  # from 0 on, so that the first one is a rise
            self._looks.labels(result)
        self._webhooks = Counter("sluice_webhook_messages", "Messages to webhooks.", ["event", "outcome"], **make)

    def emit(self, event: Event) -> None:
        match event:
            case AttemptEnded():
                self._attempt(event)
            case RequestEnded():
                self._request(event)
            case StreamContinued(how=how):
                self._continued.labels(how).inc()
            case PolicyReloaded(version=version):
                self._reloads.labels("taken").inc()
                self.policy_in_force(version)
            case PolicyRefused():
                self._reloads.labels("refused").inc()
            case PoolMisconfigured(pool=pool):
                self._misconfigured.labels(pool).inc()
            case StoreTrouble(decision=decision):
                self._store_trouble.labels(decision).inc()
            case CapWarned():
                self._cap_warnings.inc()
            case CapExhausted():
                self._cap_refusals.inc()
            case RateLimitHit(dimension=dimension):
                self._rate_limited.labels(dimension).inc()

    def webhook_told(self, event: str, outcome: str) -> None:
        self._webhooks.labels(event, outcome).inc()

    def platform_said(self, *, listed: bool) -> None:
        """The platform was asked for its containers. `listed`: it named all of them."""
        self._looks.labels("listed" if listed else "failed").inc()

    def policy_in_force(self, version: str) -> None:
        self._policy.clear()
        self._policy.labels(version).set(1)

    def model_in_force(self, model: OutputModel | None) -> None:
        """The model of output tokens that expectations are drawn from."""
        self._model.clear()
        if model is not None:
            self._model.labels(model.version).set(model.trained_at_us / US_PER_S)

    def _attempt(self, event: AttemptEnded) -> None:
        key = (event.pool, event.outcome)
        self._attempts.add(key)
        self._costs.add(key, event.charge_nusd)
        self._charged.add((event.pool,), event.paid_nusd)
        self.house.attempted(event)
        if event.schema_result is not None:
            self._schemas.add((event.pool, event.schema_result))

    def _request(self, event: RequestEnded) -> None:
        name = event.request_class
        self._requests.add((name, event.tier, event.outcome, event.error_code, event.status))
        self._gen_ai.ended(event)
        if event.attempts > 1:
            self._fallbacks.add((name, event.outcome))
        if event.baseline_nusd is not None:
            self._baseline.add((name,), event.baseline_nusd)
            self._compared.add((name,), event.charge_nusd)
        if event.lowered_by is not None:
            self._lowered.add((name,))
        if event.completion_tokens is not None and event.outcome == "served":
            self._prediction(event, event.completion_tokens)
        if self._tenants is not None:
            self._tenants.ended(event)

    def _prediction(self, event: RequestEnded, tokens: int) -> None:
        """Where expectations are right, half of the answers are not above the median, nine in ten not above the p90."""
        for level, expected in (("0.5", event.expected_tokens), ("0.9", event.p90_tokens)):
            if expected is not None:
                result = "above" if tokens > expected else "not_above"
                self._predicted.add((event.request_class, event.expected_from, level, result))

    def text(self) -> bytes:
        """The exposition that Prometheus scrapes."""
        counted = chain.from_iterable(counts.lines() for counts in self._counted)
        tenants = () if self._tenants is None else self._tenants.lines()
        lines = chain(self._gen_ai.lines(), counted, self.house.lines(), tenants)
        return "".join(lines).encode() + generate_latest(self.registry)
