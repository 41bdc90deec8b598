"""FOCUS 1.2's rules for the columns that we export, and a reader that finds what breaks them.

One line a column: type, whether it may be null, what it may hold. Rules between columns stand below, each as one
sentence of the specification and a function over a row. `BilledCost` may be null here and may not in FOCUS: that is
how an estimate is told from a bill.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

Row = Mapping[str, str | None]

DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
CURRENCY = re.compile(r"[A-Z]{3}")
UNIT = re.compile(r"([0-9]+ )?[A-Z][A-Za-z]*(-(Seconds|Minutes|Hours|Days|Months))?")


@dataclass(frozen=True)
class Column:
    """`since` is the FOCUS version that has the column first; "x" is ours."""

    name: str
    type: str  # decimal, string, datetime, json, currency, unit, boolean, integer
    nullable: bool = True
    allowed: tuple[str, ...] = ()
    mandatory: bool = False
    since: str = "1.2"


def must(name: str, kind: str, nullable: bool = False, allowed: tuple[str, ...] = ()) -> Column:
    return Column(name, kind, nullable, allowed, mandatory=True)


CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
SERVICE_CATEGORIES = (
    "AI and Machine Learning",
    "Analytics",
    "Business Applications",
    "Compute",
    "Databases",
    "Developer Tools",
    "Multicloud",
    "Identity",
    "Integration",
    "Internet of Things",
    "Management and Governance",
    "Media",
    "Migration",
    "Mobile",
    "Networking",
    "Security",
    "Storage",
    "Web",
    "Other",
)
TABLE = (
    must("BilledCost", "decimal", nullable=True),  # FOCUS: never null
    must("BillingAccountId", "string"),
    must("BillingAccountName", "string", nullable=True),
    must("BillingCurrency", "currency"),
    must("BillingPeriodStart", "datetime"),
    must("BillingPeriodEnd", "datetime"),
    must("ChargeCategory", "string", allowed=CATEGORIES),
    must("ChargeClass", "string", nullable=True, allowed=("Correction",)),
    must("ChargeDescription", "string", nullable=True),
    must("ChargePeriodStart", "datetime"),
    must("ChargePeriodEnd", "datetime"),
    must("ContractedCost", "decimal"),
    must("EffectiveCost", "decimal"),
    must("InvoiceIssuerName", "string"),
    must("ListCost", "decimal"),
    must("PricingQuantity", "decimal", nullable=True),
    must("PricingUnit", "unit", nullable=True),
    must("ProviderName", "string"),
    must("PublisherName", "string"),
    must("ServiceCategory", "string", allowed=SERVICE_CATEGORIES),
    must("ServiceName", "string"),
    Column("ChargeFrequency", "string", False, ("One-Time", "Recurring", "Usage-Based")),
    Column("ConsumedQuantity", "decimal"),
    Column("ConsumedUnit", "unit"),
    Column("ContractedUnitPrice", "decimal"),
    Column("InvoiceId", "string"),
    Column("ListUnitPrice", "decimal"),
    Column("PricingCategory", "string", True, ("Standard", "Dynamic", "Committed", "Other")),
    Column("RegionId", "string"),
    Column("RegionName", "string"),
    Column("ResourceId", "string"),
    Column("ResourceName", "string"),
    Column("ResourceType", "string"),
    Column("ServiceSubcategory", "string", False, ("Generative AI",)),
    Column("SkuId", "string"),
    Column("SkuMeter", "string"),
    Column("SkuPriceDetails", "json"),
    Column("SkuPriceId", "string"),
    Column("SubAccountId", "string"),
    Column("SubAccountName", "string"),
    Column("Tags", "json"),
    Column("AllocatedMethodDetails", "json", since="1.3"),
    Column("AllocatedMethodId", "string", since="1.3"),
    Column("AllocatedResourceId", "string", since="1.3"),
    Column("AllocatedResourceName", "string", since="1.3"),
    Column("HostProviderName", "string", False, since="1.3"),
    Column("ServiceProviderName", "string", False, since="1.3"),
    Column("x_Phase", "string", False, since="x"),
    Column("x_Estimated", "boolean", False, since="x"),
    Column("x_PredictedCost", "decimal", False, since="x"),
    Column("x_PriceBooks", "string", since="x"),
    Column("x_PolicyVersion", "string", since="x"),
    Column("x_Evidence", "string", False, ("observed", "modelled"), since="x"),
    Column("x_InputTokens", "integer", since="x"),
    Column("x_CachedInputTokens", "integer", since="x"),
    Column("x_OutputTokens", "integer", since="x"),
    Column("x_Model", "string", since="x"),
    Column("x_Gpu", "string", since="x"),
    Column("x_Resource", "string", False, ("gpu", "cpu", "memory", "tokens", "container", "other"), since="x"),
)
SKU_PROPERTIES = ("CoreCount", "GpuCount", "MemorySize")


def _json_object(text: str) -> bool:
    """FOCUS's KeyValueFormat: an object of plain values."""
    value = json.loads(text)
    return isinstance(value, dict) and bool(value) and all(_plain(each) for each in value.values())


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "decimal": lambda text: bool(DECIMAL.fullmatch(text)),
    "string": lambda text: bool(text.strip()) and text == text.strip(),
    "datetime": lambda text: bool(INSTANT.fullmatch(text)),
    "json": _json_object,
    "currency": lambda text: bool(CURRENCY.fullmatch(text)),
    "unit": lambda text: bool(UNIT.fullmatch(text)),
    "boolean": lambda text: text in ("true", "false"),
    "integer": lambda text: text.isdecimal(),
}


def _at(row: Row, name: str) -> datetime:
    return datetime.strptime(row[name] or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _same_null(row: Row, *names: str) -> bool:
    return len({row[name] is None for name in names}) == 1


def _number(row: Row, name: str) -> Decimal:
    return Decimal(row[name] or "0")


def _product(row: Row, price: str, cost: str) -> bool:
    """To the nano-dollar, of numbers with fifteen decimals."""
    with localcontext(prec=60):
        product = _number(row, price) * _number(row, "PricingQuantity")
        return product.quantize(Decimal("1e-9")) == _number(row, cost)


def _usage(row: Row) -> bool:
    return row["ChargeCategory"] == "Usage"


def _month(row: Row) -> bool:
    start, end = _at(row, "BillingPeriodStart"), _at(row, "BillingPeriodEnd")
    return start.day == 1 and end.day == 1 and 27 < (end - start).days < 32 and not (start.hour or end.hour)


def _sku_details(row: Row) -> bool:
    names = json.loads(row["SkuPriceDetails"] or "{}")
    return all(name in SKU_PROPERTIES or name.startswith("x_") for name in names)


HOUR = timedelta(hours=1)
COSTS = ("ContractedCost", "EffectiveCost", "ListCost", "x_PredictedCost")
OF_USAGE = (
    "ConsumedQuantity",
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "SkuId",
    "SkuPriceId",
)
ALLOCATION = ("AllocatedMethodId", "AllocatedMethodDetails", "AllocatedResourceId", "AllocatedResourceName")

BETWEEN: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("BilledCost is null exactly where the row is an estimate", lambda r: (r["BilledCost"] is None) == est(r)),
    ("BilledCost is the cost that was predicted, once an hour is reconciled", lambda r: est(r) or same(r)),
    ("the billing period is a calendar month of UTC", _month),
    ("the charge period is one hour", lambda r: _at(r, "ChargePeriodEnd") - _at(r, "ChargePeriodStart") == HOUR),
    ("the charge period lies within the billing period", lambda r: within(r)),
    ("without discounts contracted, effective and list cost agree", lambda r: len({r[name] for name in COSTS}) == 1),
    (
        "ListUnitPrice × PricingQuantity is ListCost",
        lambda r: not _usage(r) or _product(r, "ListUnitPrice", "ListCost"),
    ),
    (
        "ContractedUnitPrice × PricingQuantity is ContractedCost",
        lambda r: not _usage(r) or _product(r, "ContractedUnitPrice", "ContractedCost"),
    ),
    (
        "unit prices are not negative",
        lambda r: min(_number(r, "ListUnitPrice"), _number(r, "ContractedUnitPrice")) >= 0,
    ),
    (
        "a usage has prices, a quantity and a SKU",
        lambda r: not _usage(r) or all(r[name] is not None for name in OF_USAGE),
    ),
    ("ConsumedQuantity is null of what is no usage", lambda r: _usage(r) or r["ConsumedQuantity"] is None),
    ("ConsumedUnit is null with its quantity", lambda r: _same_null(r, "ConsumedQuantity", "ConsumedUnit")),
    ("PricingUnit is null with its quantity", lambda r: _same_null(r, "PricingQuantity", "PricingUnit")),
    ("quantities of a usage are not negative", lambda r: _number(r, "PricingQuantity") >= 0),
    ("a region has an id and a name", lambda r: _same_null(r, "RegionId", "RegionName")),
    ("ResourceType and ResourceName need a ResourceId", lambda r: _same_null(r, "ResourceId", "ResourceName")),
    ("SkuMeter is null with SkuId", lambda r: r["SkuId"] is not None or r["SkuMeter"] is None),
    ("SkuPriceDetails needs SkuPriceId", lambda r: r["SkuPriceId"] is not None or r["SkuPriceDetails"] is None),
    ("SkuPriceDetails has FOCUS's names, and ours with x_", _sku_details),
    ("SubAccountName is null with SubAccountId", lambda r: _same_null(r, "SubAccountId", "SubAccountName")),
    ("an allocation has a method and a resource", lambda r: _same_null(r, *ALLOCATION)),
    ("a correction is not part of this dataset", lambda r: r["ChargeClass"] is None),
)


def est(row: Row) -> bool:
    return row["x_Estimated"] == "true"


def same(row: Row) -> bool:
    return row["BilledCost"] == row["x_PredictedCost"]


def within(row: Row) -> bool:
    first, last = _at(row, "ChargePeriodStart"), _at(row, "ChargePeriodEnd")
    return _at(row, "BillingPeriodStart") <= first < last <= _at(row, "BillingPeriodEnd")


def read_export(text: str) -> list[Row]:
    """Rows of an export. An empty field without quotes is null; one in quotes is an empty text, which breaks a rule.

    Written by hand, since `csv` does not tell the two apart.
    """
    header, *lines = _records(text)
    return [dict(zip((name or "" for name in header), line, strict=True)) for line in lines]


def _records(text: str) -> Iterator[list[str | None]]:
    record: list[str | None] = []
    for found in re.finditer(r'(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\n)', text):
        quoted, plain, end = found.groups()
        record.append(quoted.replace('""', '"') if quoted is not None else plain or None)
        if end == "\n":
            yield record
            record = []


def broken_rules(rows: Iterable[Row]) -> list[str]:
    """Every broken rule, with the row's description."""
    return [f"{row['ChargeDescription']} {row['ChargePeriodStart']}: {said}" for row in rows for said in _broken(row)]


def _broken(row: Row) -> Iterator[str]:
    for column in TABLE:
        value = row[column.name]
        if value is None:
            if not column.nullable:
                yield f"{column.name} is null"
        elif not FORMATS[column.type](value):
            yield f"{column.name} '{value}' is no {column.type}"
        elif column.allowed and value not in column.allowed:
            yield f"{column.name} '{value}' is not allowed"
    yield from (sentence for sentence, holds in BETWEEN if not holds(row))
