"""Prometheus metrics, fed by events and by a snapshot of the pools and caps at scrape time. No tenant label.

Names follow OpenTelemetry's `gen_ai.*` where it has one, and are `sluice_*` for money and pools (`docs/metrics.md`).
Children are looked up once per label set and kept: a labels() call costs three times the increment itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policies.predict.model import OutputModel
from pools.state import BreakerState, PoolState
from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.budget_gauges import BudgetGauges
from router.engine_gauges import engine_gauges
from router.events import (
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

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)
_BREAKER: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class PoolGauges(Collector):
    """Reads the pools' states when somebody scrapes."""

    def __init__(self, states: Callable[[], Mapping[str, PoolState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        gauges: list[tuple[str, str, Callable[[PoolState], float]]] = [
            ("sluice_pool_containers_ready", "Containers that can serve.", lambda state: state.ready),
            ("sluice_pool_containers_booting", "Containers that are starting.", lambda state: state.booting),
            ("sluice_pool_requests_in_flight", "Requests dispatched and not ended.", lambda state: state.in_flight),
            ("sluice_pool_breaker", "0 closed, 1 half open, 2 open.", lambda state: _BREAKER[state.breaker]),
        ]
        states = self._states()
        for name, text, value_of in gauges:
            family = GaugeMetricFamily(name, text, labels=["pool"])
            for pool, state in states.items():
                if state.deployed:
                    family.add_metric([pool], value_of(state))
            yield family
        yield from engine_gauges(states)


class MetricsSink:
    """Counts events. `registry` is the process's own, so that several services can live in one process."""

    def __init__(self, states: Callable[[], Mapping[str, PoolState]]) -> None:
        self.registry = CollectorRegistry()
        # For each counter and histogram a second one, of when it began: nobody asks, and it doubles the scrape.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it
        make: dict[str, Any] = {"registry": self.registry}
        requests = Counter("sluice_requests", "Requests ended.", ["class", "tier", "outcome", "code"], **make)
        duration = Histogram(
            "gen_ai_server_request_duration_seconds", "Whole requests.", ["class"], buckets=_SECONDS, **make
        )
        ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "Dispatch to first token.", ["pool"], buckets=_SECONDS, **make
        )
        tokens = Counter("gen_ai_client_token_usage", "Tokens.", ["class", "type"], **make)
        charged = Counter("sluice_charged_usd", "Charged to tenants.", ["pool"], **make)
        attempts = Counter("sluice_attempts", "Attempts ended.", ["pool", "outcome"], **make)
        schemas = Counter(
            "sluice_schema_answers", "Answers to requests with a JSON schema.", ["pool", "result"], **make
        )
        predicted = Counter(
            "sluice_output_predictions",
            "Answers beside what was expected of them.",
            ["class", "ground", "quantile", "result"],
            **make,
        )
        # One bound child per label set ever seen; label values are classes, tiers, pools and codes, all from files.
        self._requests = cache(requests.labels)
        self._duration = cache(duration.labels)
        self._ttft = cache(ttft.labels)
        self._tokens = cache(tokens.labels)
        self._charged = cache(charged.labels)
        self._attempts = cache(attempts.labels)
        self._schemas = cache(schemas.labels)
        self._predicted = cache(predicted.labels)
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
        self._webhooks = Counter("sluice_webhook_messages", "Messages to webhooks.", ["event", "outcome"], **make)
        self._lowered = Counter("sluice_tier_lowered", "Requests whose tier a budget lowered.", ["class"], **make)
        self.budgets = BudgetGauges()
        self.registry.register(PoolGauges(states))
        self.registry.register(self.budgets)

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

    def policy_in_force(self, version: str) -> None:
        self._policy.clear()
        self._policy.labels(version).set(1)

    def model_in_force(self, model: OutputModel | None) -> None:
        """The model of output tokens that expectations are drawn from."""
        self._model.clear()
        if model is not None:
            self._model.labels(model.version).set(model.trained_at_us / US_PER_S)

    def _attempt(self, event: AttemptEnded) -> None:
        self._attempts(event.pool, event.outcome).inc()
        if event.ttft_us is not None:
            self._ttft(event.pool).observe(event.ttft_us / US_PER_S)
        if event.schema_result is not None:
            self._schemas(event.pool, event.schema_result).inc()

    def _request(self, event: RequestEnded) -> None:
        self._requests(event.request_class, event.tier, event.outcome, event.error_code or "").inc()
        if event.lowered_by is not None:
            self._lowered.labels(event.request_class).inc()
        self._duration(event.request_class).observe(event.duration_us / US_PER_S)
        if event.pool is not None and event.charge_nusd:
            self._charged(event.pool).inc(usd_number(event.charge_nusd))
        if event.prompt_tokens is not None:
            self._tokens(event.request_class, "input").inc(event.prompt_tokens)
        if event.completion_tokens is not None:
            self._tokens(event.request_class, "output").inc(event.completion_tokens)
            if event.outcome == "served":
                self._prediction(event, event.completion_tokens)

    def _prediction(self, event: RequestEnded, tokens: int) -> None:
        """Where expectations are right, half of the answers are not above the median, nine in ten not above the p90."""
        for quantile, expected in (("0.5", event.expected_tokens), ("0.9", event.p90_tokens)):
            if expected is not None:
                result = "above" if tokens > expected else "not_above"
                self._predicted(event.request_class, event.expected_from, quantile, result).inc()

    def text(self) -> bytes:
        """The exposition that Prometheus scrapes."""
        return generate_latest(self.registry)
