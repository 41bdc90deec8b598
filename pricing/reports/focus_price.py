"""Prices and quantities of one FOCUS row: what was bought, in which unit, at which price.

GPU, CPU and memory are sold by the hour; a row's quantity is its cost over its unit price, so that a requests' share of
a container is its share of the container's hours. Tokens, and pools whose rate nobody knows any more, have the mean
price of the row's quantity instead. Either way price × quantity is the cost, to the nano-dollar.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

from pricing.money import NUSD_PER_USD, S_PER_HOUR, US_PER_HOUR
from pricing.prices.resources import PricedPool, Resource
from pricing.prices.token_price import TOKENS_PER_PRICE
from pricing.reports.focus_columns import json_text, number_text, rounded, usd_text

_UNITS: Final = {Resource.GPU: "GPU", Resource.CPU: "Core", Resource.MEMORY: "GiB"}
_METERS: Final = {
    Resource.GPU: "GPU time",
    Resource.CPU: "CPU time",
    Resource.MEMORY: "Memory time",
    Resource.TOKENS: "Tokens",
    Resource.CONTAINER: "Container time",
    Resource.OTHER: "Other",
}


class Measured(Protocol):
    """What a row's sum says of its size."""

    @property
    def duration_us(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Bought:
    """`quantity` in `unit` at `price_usd` each; `consumed` is the same in `consumed_unit`."""

    quantity: Fraction
    unit: str
    price_usd: Fraction
    consumed: Fraction
    consumed_unit: str


def priced_columns(
    pool: str,
    book: str,
    resource: Resource,
    amount_nusd: int,
    is_usage: bool,
    priced: PricedPool | None,
    measured: Measured,
) -> dict[str, str | None]:
    """Costs, prices, quantities and SKU. An adjustment has no quantity and no price, only its cost."""
    amount = usd_text(amount_nusd)
    bought = _bought(resource, amount_nusd, priced, measured) if is_usage else None
    sku = _sku(pool, resource, priced)
    return {
        "ListCost": amount,
        "ContractedCost": amount,
        "PricingCategory": "Standard" if bought else None,
        "PricingQuantity": number_text(bought.quantity) if bought else None,
        "PricingUnit": bought.unit if bought else None,
        "ListUnitPrice": number_text(bought.price_usd) if bought else None,
        "ContractedUnitPrice": number_text(bought.price_usd) if bought else None,
        "ConsumedQuantity": number_text(bought.consumed) if bought else None,
        "ConsumedUnit": bought.consumed_unit if bought else None,
        "SkuId": sku,
        "SkuMeter": _METERS[resource],
        "SkuPriceId": _price_id(sku, book, priced) if bought else None,
        "SkuPriceDetails": _details(priced) if bought else None,
    }


def _bought(resource: Resource, amount_nusd: int, priced: PricedPool | None, measured: Measured) -> _Bought:
    cost_usd = Fraction(amount_nusd, NUSD_PER_USD)
    name = _UNITS.get(resource)
    if name is not None and priced is not None:
        price_usd = rounded(priced.unit_nusd_per_h(resource) / NUSD_PER_USD)
        hours = rounded(cost_usd / price_usd)
        return _Bought(hours, f"{name}-Hours", price_usd, hours * S_PER_HOUR, f"{name}-Seconds")
    if resource is Resource.TOKENS:
        tokens = Fraction(measured.prompt_tokens + measured.completion_tokens)
        mean = _at_mean_price(cost_usd, tokens / TOKENS_PER_PRICE, f"{TOKENS_PER_PRICE} Tokens", tokens, "Tokens")
    else:
        hours = Fraction(measured.duration_us, US_PER_HOUR)
        mean = _at_mean_price(cost_usd, hours, "Hours", hours * S_PER_HOUR, "Seconds")
    return mean or _Bought(Fraction(1), "Units", cost_usd, Fraction(1), "Units")


def _at_mean_price(
    cost_usd: Fraction, quantity: Fraction, unit: str, consumed: Fraction, consumed_unit: str
) -> _Bought | None:
    """None where nothing was measured."""
    quantity = rounded(quantity)
    return _Bought(quantity, unit, rounded(cost_usd / quantity), consumed, consumed_unit) if quantity else None


def _sku(pool: str, resource: Resource, priced: PricedPool | None) -> str:
    if priced is None:
        return f"unknown:{resource}:{pool}"
    if priced.rate.tokens is not None:
        return f"{priced.provider}:tokens:{priced.rate.tokens.model}"
    what = f"gpu:{priced.gpu.lower()}" if resource is Resource.GPU else str(resource)
    return f"{priced.provider}:{what}"


def _price_id(sku: str, book: str, priced: PricedPool | None) -> str:
    region = f":{priced.region}" if priced and priced.region else ""
    return f"{book or 'no-book'}:{sku}{region}"


def _details(priced: PricedPool | None) -> str | None:
    """What a container has, under FOCUS's names; ours begin with `x_`."""
    if priced is None or priced.rate.tokens is not None:
        return None
    return json_text(
        {
            "GpuCount": priced.gpu_count,
            "CoreCount": priced.cpu_cores,
            "MemorySize": priced.memory_gib,
            "x_Gpu": priced.gpu,
        }
    )
