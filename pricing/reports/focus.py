"""The ledger as a FOCUS dataset: a row per pool, hour, resource, phase and account.

Rows are finer where policy version, price book, evidence or tags differ, so that each row has one of them. Amounts are
the ledger's, divided into resources by what the pool was when the row was written (`pricing.reports.focus_pools`);
`x_PredictedCost` over all rows is the ledger to the nano-dollar. A pool's hour that was reconciled
(`pricing.reconcile`), and has not changed since, carries BilledCost: the bill, of which its rows are then parts. All
others are estimates: `x_Estimated` is true and BilledCost null, because nobody has billed it yet. FOCUS lets BilledCost
never be null; a dataset of `billed_only` rows is exact in that too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import IO, Final

from pricing.ledger.codec import tags_from
from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading
from pricing.ledger.rows import WITHOUT_STORE
from pricing.money import US_PER_HOUR
from pricing.prices.resources import PricedPool, Resource, in_parts
from pricing.reports.focus_columns import COLUMNS, instant, json_text, month_of, usd_text
from pricing.reports.focus_groups import Group, is_billed, read_groups
from pricing.reports.focus_pools import Given, PoolsThen, Sold
from pricing.reports.focus_price import priced_columns

Row = dict[str, str | None]
CURRENCY: Final = "USD"
"""Of every amount of the ledger; price books in another currency are refused when they are read."""

_SHARE: Final = (
    "busy container time, shared by those whose requests ran in it, each by the weight of its requests while they ran"
)


@dataclass(frozen=True, slots=True)
class FocusAsked:
    """Whole hours of UTC: from that in which `since_us` lies to before that in which `until_us` lies.

    `billing_account` is the id of the account at the provider, None for the provider's name. `billed_only` leaves
    estimates out.
    """

    since_us: int
    until_us: int
    billing_account: str | None = None
    billed_only: bool = False

    def hours(self) -> tuple[int, int]:
        """The window in whole hours. Raises ValueError where there is none."""
        since_us, until_us = (at_us // US_PER_HOUR * US_PER_HOUR for at_us in (self.since_us, self.until_us))
        if since_us >= until_us:
            raise ValueError("the export has whole hours of UTC, and the window holds none; ask for a longer one")
        return since_us, until_us


@dataclass(frozen=True, slots=True)
class Exported:
    """How many rows were written, and the policy versions of which some pool is not known, in order."""

    rows: int
    not_known: tuple[str, ...]


def write_focus(place: LedgerPlace, asked: FocusAsked, given: Given, file: IO[str]) -> Exported:
    """Write a window as CSV. A null is an empty field without quotes. What cannot be read leaves no heading behind.

    `given` is asked for pools of its own version that the ledger has not noted. Raises ValueError for a window without
    a whole hour, and StoreUnavailable.
    """
    since_us, until_us = asked.hours()
    with reading(place) as ledger:
        pools = PoolsThen(ledger, given)
        groups = read_groups(ledger, since_us, until_us)
        first = next(groups, None)
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        count = 0
        for row in _rows(chain(() if first is None else (first,), groups), asked, pools):
            writer.writerow(row)
            count += 1
        return Exported(count, tuple(sorted(pools.not_known)))


def _rows(groups: Iterable[Group], asked: FocusAsked, pools: PoolsThen) -> Iterator[Row]:
    """The rows by hour and pool, each with a value or None for every column."""
    for _, found in groupby(groups, key=lambda group: group.at_us):
        hour = sorted(found, key=lambda group: group.key)
        for _, same in groupby(hour, key=lambda group: group.pool):
            yield from _rows_of_pool_hour(list(same), asked, pools)


def _rows_of_pool_hour(groups: list[Group], asked: FocusAsked, pools: PoolsThen) -> Iterator[Row]:
    billed = is_billed(groups)
    if asked.billed_only and not billed:
        return
    for group in groups:
        sold = pools.sold(group)
        parts = _parts(group, sold.pool)
        for number, (resource, amount_nusd) in enumerate(parts.items()):
            if amount_nusd or not number:
                yield {
                    **_charge(group, resource, amount_nusd, billed),
                    **_whose(group, sold, asked.billing_account),
                    **priced_columns(
                        group.pool, group.price_books, resource, amount_nusd, group.is_usage, sold.pool, group
                    ),
                    **_tokens(group, first=number == 0),
                }


def _parts(group: Group, priced: PricedPool | None) -> dict[Resource, int]:
    known = group.reconciled
    return in_parts(group.amount_nusd, priced) if known is None else {known: group.amount_nusd}


def _charge(group: Group, resource: Resource, amount_nusd: int, billed: bool) -> Row:
    amount = usd_text(amount_nusd)
    month = month_of(group.at_us)
    return {
        "BilledCost": amount if billed else None,
        "EffectiveCost": amount,
        "BillingCurrency": CURRENCY,
        "BillingPeriodStart": month[0],
        "BillingPeriodEnd": month[1],
        "ChargeCategory": "Usage" if group.is_usage else "Adjustment",
        "ChargeClass": None,
        "ChargeDescription": f"{resource} of pool {group.pool}, {group.phase}, {group.account}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": instant(group.at_us),
        "ChargePeriodEnd": instant(group.at_us + US_PER_HOUR),
        "x_Phase": group.phase,
        "x_Estimated": "false" if billed else "true",
        "x_PredictedCost": amount,
        "x_PriceBooks": group.price_books or None,
        "x_PolicyVersion": group.policy_version or None,
        "x_Evidence": group.evidence,
        "x_Model": group.model or None,
        "x_Gpu": group.gpu or None,
        "x_Resource": resource.value,
    }


def _whose(group: Group, sold: Sold, account: str | None) -> Row:
    provider, priced = sold.provider, sold.pool
    shared = group.of_tenant and not (priced and priced.rate.tokens)
    tags = {tag: True for tag in tags_from(group.tags or "[]") if tag != WITHOUT_STORE}
    return {
        "BillingAccountId": account or provider,
        "BillingAccountName": None,
        "InvoiceIssuerName": provider,
        "InvoiceId": None,
        "ProviderName": provider,
        "PublisherName": provider,
        "HostProviderName": provider,
        "ServiceProviderName": provider,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": sold.service,
        "ResourceId": group.pool or None,
        "ResourceName": group.pool or None,
        "ResourceType": ("Model API" if priced and priced.rate.tokens else "GPU Pool") if group.pool else None,
        "RegionId": priced.region if priced else None,
        "RegionName": priced.region if priced else None,
        "SubAccountId": group.account,
        "SubAccountName": group.account,
        "Tags": json_text(tags),
        "AllocatedMethodId": "sluice:busy-share" if shared else None,
        "AllocatedMethodDetails": json_text({"x_Method": _SHARE}) if shared else None,
        "AllocatedResourceId": group.account if shared else None,
        "AllocatedResourceName": group.account if shared else None,
    }


def _tokens(group: Group, *, first: bool) -> Row:
    """Beside the first resource alone, so that a column of them adds up."""
    counted = first and (group.prompt_tokens or group.completion_tokens)
    return {
        "x_InputTokens": str(group.prompt_tokens) if counted else None,
        "x_CachedInputTokens": str(group.cached_prompt_tokens) if counted else None,
        "x_OutputTokens": str(group.completion_tokens) if counted else None,
    }
