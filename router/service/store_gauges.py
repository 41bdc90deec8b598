"""Metrics of the budget store and of the ledger's way to PostgreSQL, read when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.service.parts import Parts
from router.service.shared import Shared


class StoreGauges(Collector):
    """Of one service's parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        state = self._parts.store.state()
        yield _gauge("sluice_store_down", "1 while the budget store cannot be reached.", 0 if state.up else 1)
        since_s = 0 if state.down_since_us is None else state.down_since_us / US_PER_S
        yield _gauge("sluice_store_down_since_timestamp_seconds", "Since when; 0 while it is up.", since_s)
        yield _gauge("sluice_store_endings_kept", "Attempts that ended and are not yet written.", state.kept)
        left_usd = usd_number(state.allowance_left_nusd)
        yield _gauge("sluice_store_allowance_left_usd", "Left of this outage's allowance.", left_usd)
        decided = CounterMetricFamily(
            "sluice_store_down_holds", "Holds asked for while the store was down.", labels=["decision"]
        )
        decided.add_metric(["allowed"], state.allowed)
        decided.add_metric(["refused"], state.refused)
        yield decided
        yield self._times()
        if self._parts.shared is not None:
            yield from _of_shared(self._parts.shared)

    def _times(self) -> Metric:
        family = HistogramMetricFamily("sluice_store_step_seconds", "Steps that requests wait for.", labels=["step"])
        for step, times in (("open", self._parts.store.open_times), ("settle", self._parts.store.settle_times)):
            buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in times.cumulative()]
            family.add_metric([step], buckets, times.total_us / US_PER_S)
        return family


def _of_shared(shared: Shared) -> Iterable[Metric]:
    backlog, drained = shared.backlog, shared.drainer.drained
    if backlog is not None:
        yield _gauge("sluice_ledger_backlog_entries", "Entries that wait in Redis for PostgreSQL.", backlog.entries)
        yield _gauge("sluice_ledger_backlog_bytes", "Their size.", backlog.bytes)
        yield _gauge("sluice_ledger_backlog_age_seconds", "Age of the oldest; 0: none waits.", backlog.oldest_s or 0)
        yield _gauge("sluice_ledger_poison_entries", "Entries set aside that cannot be written.", backlog.poison)
    yield _gauge(
        "sluice_ledger_down", "1 while PostgreSQL cannot be reached.", 0 if shared.ledger_problem is None else 1
    )
    yield CounterMetricFamily("sluice_ledger_drained_rows", "Rows that this replica wrote.", drained.rows)
    yield _gauge("sluice_store_clock_skew_seconds", "Redis's time less this replica's.", shared.store.skew_s)
    weaknesses = len(shared.weaknesses)
    yield _gauge("sluice_store_weaknesses", "Ways in which Redis keeps less than the policy promises.", weaknesses)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
