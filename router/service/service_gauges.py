"""Whether an endpoint itself is well, as gauges: its files, and the loops that run beside its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ServiceGauges(Collector):
    """`problems` says what is wrong with the files as they are now, `dead` which loops have ended by a fault."""

    def __init__(self, problems: Callable[[], Sequence[str]], dead: Callable[[], Sequence[str]]) -> None:
        self._problems = problems
        self._dead = dead

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "sluice_config_last_reload_successful",
            "0 while the files are refused that are there now.",
            value=0 if self._problems() else 1,
        )
        yield GaugeMetricFamily("sluice_loops_dead", "Loops beside the requests that a fault ended.", len(self._dead()))
