"""What pools' engines said of themselves, as gauges: only of those that were asked and answered a moment ago."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from pools.live.state import PoolState

_GAUGES: Final[tuple[tuple[str, str, Callable[[PoolState], float | None]], ...]] = (
    (
        "sluice_pool_engine_requests_running",
        "Requests that the pool's engine runs, as it says.",
        lambda state: None if state.engine is None else state.engine.running,
    ),
    (
        "sluice_pool_engine_requests_waiting",
        "Requests that wait in the pool's engine, as it says.",
        lambda state: None if state.engine is None else state.engine.waiting,
    ),
    (
        "sluice_pool_engine_kv_usage_ratio",
        "How full the engine's cache is, 0 to 1.",
        lambda state: None if state.engine is None else state.engine.kv_usage,
    ),
    (
        "sluice_pool_engine_preemptions",
        "Requests that the engine has put back since its start, for want of cache.",
        lambda state: None if state.engine is None else state.engine.preemptions,
    ),
    (
        "sluice_pool_requests_foreign",
        "Requests that the engine has beyond those sent from here.",
        lambda state: None if state.engine is None else state.foreign_in_flight,
    ),
)


def engine_gauges(states: Mapping[str, PoolState]) -> Iterable[GaugeMetricFamily]:
    """A family for each, with the pools that said something."""
    for name, text, value_of in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=["pool"])
        for pool, state in states.items():
            value = value_of(state)
            if state.deployed and value is not None:
                family.add_metric([pool], value)
        yield family
