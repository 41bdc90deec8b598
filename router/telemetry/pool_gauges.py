"""What is believed of pools, as gauges, read when somebody scrapes. Pools without an endpoint are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pools.live.state import BreakerState, PoolState
from router.telemetry.engine_gauges import engine_gauges

_BREAKER: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

_GAUGES: Final[tuple[tuple[str, str, Callable[[PoolState], float]], ...]] = (
    ("sluice_pool_containers_ready", "Containers that can serve.", lambda state: state.ready),
    ("sluice_pool_containers_booting", "Containers that are starting.", lambda state: state.booting),
    ("sluice_pool_requests_in_flight", "Requests dispatched and not ended.", lambda state: state.in_flight),
    ("sluice_pool_breaker", "0 closed, 1 half open, 2 open.", lambda state: _BREAKER[state.breaker]),
    ("sluice_pool_needs_operator", "1 while our files are wrong about the pool.", lambda state: state.misconfigured),
)


class PoolGauges(Collector):
    """Reads the pools' states."""

    def __init__(self, states: Callable[[], Mapping[str, PoolState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        states = self._states()
        for name, text, value_of in _GAUGES:
            family = GaugeMetricFamily(name, text, labels=["pool"])
            for pool, state in states.items():
                if state.deployed:
                    family.add_metric([pool], value_of(state))
            yield family
        yield from engine_gauges(states)
