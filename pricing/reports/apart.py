"""Container time that stands apart, as one row for each group of containers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pricing.ledger.rows import House
from pricing.reports.dimensions import DIMENSIONS, NONE
from pricing.reports.lines import HouseLine
from pricing.reports.query import Key
from pricing.reports.report import Report
from pricing.reports.zones import in_time

ALL: Final = "pools"  # what is grouped by nothing that containers have: all pools together


@dataclass(frozen=True, slots=True)
class Apart:
    """The accounts of one group. `observed_nusd` is of boot and idle."""

    key: Key
    boot_nusd: int
    idle_nusd: int
    adjustment_nusd: int
    duration_us: int
    observed_nusd: int

    @property
    def total_nusd(self) -> int:
        return self.boot_nusd + self.idle_nusd + self.adjustment_nusd

    @property
    def observed_share(self) -> float | None:
        """Share of boot and idle on containers that were listed; None where there is neither.

        Adjustments, of either sign, correct what the others say, and are in neither part.
        """
        whole_nusd = self.boot_nusd + self.idle_nusd
        return self.observed_nusd / whole_nusd if whole_nusd else None


def apart(report: Report) -> tuple[tuple[str, ...], tuple[Apart, ...], Apart]:
    """(groupings that these containers have, a row for each group, their sum).

    Rows are in the order of time where they are grouped by it, else the dearest first. Without such groupings there
    is one row, whose key says that it is of all pools.
    """
    places = [at for at in range(len(report.by)) if any(line.key[at] != NONE for line in report.separate)]
    groups: dict[Key, list[HouseLine]] = {}
    for line in report.separate:
        groups.setdefault(tuple(line.key[at] for at in places) or ("all",), []).append(line)
    rows = [_apart(key, lines) for key, lines in groups.items()]
    times = [index for index, at in enumerate(places) if DIMENSIONS[report.by[at]].span]
    rows.sort(key=lambda row: ([in_time(row.key[index]) for index in times], -row.total_nusd, row.key))
    return tuple(report.by[at] for at in places), tuple(rows), _apart((), report.separate)


def _apart(key: Key, lines: Iterable[HouseLine]) -> Apart:
    found = tuple(lines)
    amounts = {account: sum(line.amount_nusd for line in found if line.account == account) for account in House}
    return Apart(
        key,
        amounts[House.BOOT],
        amounts[House.IDLE],
        amounts[House.ADJUSTMENT],
        sum(line.duration_us for line in found),
        sum(line.observed_nusd for line in found if line.account != House.ADJUSTMENT),
    )
