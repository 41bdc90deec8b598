"""What caps say to Prometheus: spent, held and amount, as they stood when somebody scraped.

One series for each cap and number, so only while there are few caps: with a tenant's name in each, ten thousand tenants
would be ninety thousand series. Beyond, `GET /budgets` has them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pricing.budgets.caps import CapTable
from pricing.budgets.store import BudgetStore, CapStatus
from pricing.errors import StoreUnavailable
from pricing.money import usd_number

CAPS_SHOWN: Final = 100


class BudgetGauges(Collector):
    """Shows the statuses that it was last given."""

    def __init__(self) -> None:
        self._statuses: Sequence[CapStatus] = ()

    async def look(self, store: BudgetStore, caps: CapTable) -> None:
        """Ask the store, if there are few caps. What a store that is down said before is no longer shown."""
        self._statuses = ()
        if len(caps.caps) > CAPS_SHOWN:
            return
        try:
            self._statuses = await store.statuses()
        except StoreUnavailable:
            return  # `sluice_store_trouble_total` says so; the other metrics matter all the more

    def collect(self) -> Iterable[Metric]:
        spent = GaugeMetricFamily("sluice_budget_spent_usd", "Spent in the cap's window.", labels=["cap"])
        held = GaugeMetricFamily("sluice_budget_held_usd", "Held by requests under way.", labels=["cap"])
        amount = GaugeMetricFamily("sluice_budget_cap_usd", "The cap's amount now.", labels=["cap"])
        for status in self._statuses:
            spent.add_metric([status.cap], usd_number(status.spent_nusd))
            held.add_metric([status.cap], usd_number(status.held_nusd))
            if status.amount_nusd is not None:
                amount.add_metric([status.cap], usd_number(status.amount_nusd))
        return (spent, held, amount)
