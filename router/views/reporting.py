"""A report as it is asked for on the command line and over HTTP, in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from policies.policy import Policy
from pricing.ledger.place import LedgerPlace
from pricing.reports.baseline import AS_RECORDED
from pricing.reports.columns import ColumnSet, check_sets, every_set, parts_of
from pricing.reports.dimensions import check_groupings
from pricing.reports.page import as_html
from pricing.reports.render import as_csv, as_json
from pricing.reports.report import Report, check_view, report
from pricing.reports.share import HouseView
from pricing.reports.spans import parse_window
from pricing.reports.zones import parse_zone
from router.views.baselines import PREMIUM, stated_baseline


class Form(StrEnum):
    """What a program or a browser is given."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class ReportAsked:
    """Words as they came: `by` and `show` are names joined by commas; `show` None is all that there is."""

    by: str = "tenant,pool"
    since: str = "24h"
    until: str = "now"
    tenant: str | None = None
    house: str = HouseView.SEPARATE
    timezone: str = "UTC"
    baseline: str = PREMIUM
    show: str | None = None
    policy_named: bool = False  # somebody gave files for what the ledger does not know

    @property
    def groupings(self) -> tuple[str, ...]:
        """Raises ValueError."""
        return check_groupings(_names(self.by))

    def sets(self, unsaid: Sequence[ColumnSet]) -> tuple[ColumnSet, ...]:
        """What to show; `unsaid` where nothing was said. Raises ValueError."""
        return tuple(unsaid) if self.show is None else check_sets(_names(self.show))


def make_report(
    place: LedgerPlace, asked: ReportAsked, policy: Callable[[], Policy], sets: Sequence[ColumnSet], now_us: int
) -> Report:
    """The premium pools of past requests are the ledger's to tell; `policy` is asked for a pool by its name.

    Raises ValueError for words that mean nothing here, with the valid ones, and StoreUnavailable.
    """
    recorded = asked.baseline == PREMIUM and not asked.policy_named
    zone = parse_zone(asked.timezone)
    groupings, view = asked.groupings, check_view(asked.house)
    since_us, until_us = parse_window(asked.since, asked.until, now_us, zone)
    return report(
        place,
        groupings,
        since_us,
        until_us,
        asked.tenant,
        house=view,
        zone=zone,
        parts=parts_of(sets),
        baseline=AS_RECORDED if recorded else stated_baseline(policy(), asked.baseline),
    )


def written(found: Report, form: Form, sets: Sequence[ColumnSet]) -> str:
    """The report as text of that form: a sheet and a page of these sets, JSON of all that was looked up."""
    match form:
        case Form.JSON:
            return json.dumps(as_json(found), indent=2)
        case Form.CSV:
            return as_csv(found, sets)
        case Form.HTML:
            return as_html(found, sets)


def sets_for(asked: ReportAsked) -> tuple[ColumnSet, ...]:
    """What a form other than a table shows: everything that the groupings allow, unless less is asked for."""
    return asked.sets(every_set(asked.groupings))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
