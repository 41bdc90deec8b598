"""What caps say to Prometheus, as they stood when somebody scraped.

How many have passed each threshold is always told. What each has spent and holds is one series a cap and number, so
only while there are few: with a tenant's name in each, ten thousand tenants would be ninety thousand series. Beyond,
`GET /budgets` has them, page by page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pricing.budgets.caps import CapTable
from pricing.budgets.store import BudgetStore, CapCounts, CapStatus
from pricing.errors import StoreUnavailable
from pricing.money import usd_number

CAPS_SHOWN: Final = 100


class BudgetGauges(Collector):
    """Shows what the store said when it was last asked."""

    def __init__(self) -> None:
        self._statuses: Sequence[CapStatus] = ()
        self._counts: CapCounts | None = None

    async def look(self, store: BudgetStore, caps: CapTable) -> None:
        """Ask the store. What a store that is down said before is no longer shown."""
        self._statuses, self._counts = (), None
        try:
            counts = await store.cap_counts()
            statuses = await store.statuses() if len(caps.caps) <= CAPS_SHOWN else ()
        except StoreUnavailable:
            return  # `sluice_store_trouble_total` says so; the other metrics matter all the more
        self._statuses, self._counts = statuses, counts

    def collect(self) -> Iterable[Metric]:
        spent = GaugeMetricFamily("sluice_budget_spent_usd", "Spent in the cap's window.", labels=["cap"])
        held = GaugeMetricFamily("sluice_budget_held_usd", "Held by requests under way.", labels=["cap"])
        amount = GaugeMetricFamily("sluice_budget_cap_usd", "The cap's amount now.", labels=["cap"])
        passed = GaugeMetricFamily("sluice_budget_caps", "Caps past a threshold or without rest.", labels=["state"])
        for status in self._statuses:
            spent.add_metric([status.cap], usd_number(status.spent_nusd))
            held.add_metric([status.cap], usd_number(status.held_nusd))
            if status.amount_nusd is not None:
                amount.add_metric([status.cap], usd_number(status.amount_nusd))
        if self._counts is not None:
            passed.add_metric(["warned"], self._counts.warned)
            passed.add_metric(["lowering"], self._counts.lowering)
            passed.add_metric(["exhausted"], self._counts.exhausted)
        return (passed, spent, held, amount)
