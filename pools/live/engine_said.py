"""What an engine said of itself, and for how long that is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pools.live.engine_metrics import EngineLoad
from pricing.clock import US_PER_S

FRESH_S: Final = 30.0
"""Three looks (`router.service.scraping`): what a busy pool said longer ago says little about now."""


@dataclass(frozen=True, slots=True)
class EngineSaid:
    """`foreign` are the requests in it that nobody dispatched from here; `at_us` is monotonic."""

    load: EngineLoad | None
    foreign: int
    at_us: int

    def fresh(self, now_us: int) -> bool:
        return now_us - self.at_us <= FRESH_S * US_PER_S

    @property
    def foreign_kv_share(self) -> float:
        """Of the engine's cache: each request that runs is taken to fill as much of it as every other."""
        load = self.load
        if load is None or load.kv_usage is None or not load.running:
            return 0.0
        return load.kv_usage * min(1.0, self.foreign / load.running)


NOTHING_SAID: Final = EngineSaid(None, 0, 0)
