"""What pools cost that no request caused, as counters: from the rows of the house, as they are written.

Boots, idle time and corrections come with the rows, in an embedded store when they are committed, with replicas where
a row is moved into PostgreSQL: each row is counted by one replica, so that sums over replicas are the installation's.
A correction may take back money and time. A counter only grows, so what is taken back has counters of its own, and what
an account carries is the one less the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pricing.clock import US_PER_S
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.money import NUSD_PER_USD
from router.telemetry.counting import Counts
from router.telemetry.events import AttemptEnded

_OF_CONTAINERS = frozenset({RowKind.BOOT, RowKind.IDLE, RowKind.ADJUSTMENT})


class HouseCounters:
    """Counts rows of the house, and the parts of attempts that the house bears."""

    def __init__(self) -> None:
        accounts, phases = ["pool", "account"], ["pool", "phase", "evidence"]
        text = "Container time: busy as charged to attempts, boot, idle and adjustment as posted to the house."
        self._usd = Counts("sluice_house_usd_total", "Carried by the house.", accounts, per=NUSD_PER_USD)
        self._usd_back = Counts("sluice_house_returned_usd_total", "Taken back from it.", accounts, per=NUSD_PER_USD)
        self._seconds = Counts("sluice_container_seconds_total", text, phases, per=US_PER_S)
        self._seconds_back = Counts(
            "sluice_container_returned_seconds_total", "Taken back from it.", phases, per=US_PER_S
        )
        self._boots = Counts("sluice_boots_total", "Containers that began to boot.", ["pool"])

    def posted(self, rows: Sequence[LedgerRow]) -> None:
        """Rows were written; those of requests are left out, which were counted when their attempts ended."""
        for row in rows:
            if row.kind not in _OF_CONTAINERS:
                continue
            _signed(self._usd, self._usd_back, (row.pool, row.account), row.amount_nusd)
            _signed(self._seconds, self._seconds_back, (row.pool, row.kind, row.evidence), row.duration_us)
            if row.kind is RowKind.BOOT:
                self._boots.add((row.pool,), row.boots)

    def attempted(self, event: AttemptEnded) -> None:
        """An attempt has ended: container time that it was charged for, and what of that no tenant pays."""
        if event.busy_us:
            self._seconds.add((event.pool, "busy", event.evidence), event.busy_us)
        if event.paid_nusd < event.charge_nusd:
            account = House.FAILED if event.house_pays else House.OVERRUN
            self._usd.add((event.pool, account), event.charge_nusd - event.paid_nusd)

    def lines(self) -> Iterator[str]:
        for counts in (self._usd, self._usd_back, self._seconds, self._seconds_back, self._boots):
            yield from counts.lines()


def _signed(more: Counts, less: Counts, labels: tuple[str, ...], amount: int) -> None:
    """Both are there from the first row on, so that a query may take the one from the other."""
    more.add(labels, max(amount, 0))
    less.add(labels, max(-amount, 0))
