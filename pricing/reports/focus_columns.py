"""The columns of the FOCUS export, and how values are written in it.

FOCUS 1.2 (FinOps Foundation, 2025-05-29): its 21 mandatory columns, the conditional ones that apply to GPU time, then
those of 1.3 that name an allocation and the provider's roles, then ours, which begin with `x_`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from pricing.clock import US_PER_S
from pricing.money import NUSD_PER_USD, half_even_nusd

MANDATORY: Final = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
)
CONDITIONAL: Final = (
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedUnitPrice",
    "InvoiceId",
    "ListUnitPrice",
    "PricingCategory",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
)
LATER: Final = (
    "AllocatedMethodDetails",
    "AllocatedMethodId",
    "AllocatedResourceId",
    "AllocatedResourceName",
    "HostProviderName",
    "ServiceProviderName",
)
OURS: Final = (
    "x_Phase",
    "x_Estimated",
    "x_PredictedCost",
    "x_PriceBooks",
    "x_PolicyVersion",
    "x_Evidence",
    "x_InputTokens",
    "x_CachedInputTokens",
    "x_OutputTokens",
    "x_Model",
    "x_Gpu",
    "x_Resource",
)
COLUMNS: Final = (*MANDATORY, *CONDITIONAL, *LATER, *OURS)
DIGITS: Final = 15
"""Decimals of unit prices and quantities: their product is then the cost, to the nano-dollar, of up to a million units
at a mean price: a million requests of a pool at once, or 10^12 tokens in an hour."""


def usd_text(nusd: int) -> str:
    """Nano-dollars as dollars with all their digits and no others: `0.0130`is `0.013`."""
    return _plain(nusd, NUSD_PER_USD, 9)


def number_text(value: Fraction) -> str:
    """A number rounded half to even at DIGITS decimals, without trailing zeros."""
    scaled = rounded(value) * 10**DIGITS
    return _plain(scaled.numerator, 10**DIGITS, DIGITS)


def rounded(value: Fraction) -> Fraction:
    """The number that `number_text` writes."""
    return Fraction(half_even_nusd(value.numerator * 10**DIGITS, value.denominator), 10**DIGITS)


def _plain(scaled: int, scale: int, digits: int) -> str:
    whole, fraction = divmod(abs(scaled), scale)
    tail = f"{fraction:0{digits}d}".rstrip("0")
    return f"{'-' if scaled < 0 else ''}{whole}{'.' if tail else ''}{tail}"


def instant(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // US_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def month_of(at_us: int) -> tuple[str, str]:
    """Begin and end of the UTC month that an instant lies in."""
    moment = datetime.fromtimestamp(at_us // US_PER_S, UTC)
    years, month = divmod(moment.year * 12 + moment.month, 12)
    return moment.strftime("%Y-%m-01T00:00:00Z"), f"{years:04d}-{month + 1:02d}-01T00:00:00Z"


def json_text(value: Mapping[str, object]) -> str | None:
    """A FOCUS key-value text; None, which is null, where there is nothing to say."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True) if value else None
