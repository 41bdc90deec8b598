"""The shape of a price book's file, see docs/price-books.md. `pricing.prices.book` turns it into a `PriceBook`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from pricing.money import parse_usd, rate_from_usd_per_s
from pricing.prices.gpus import canonical_gpu

_DAY_S: Final = 86_400
_MULTIPLIER_AT_MOST: Final = 100


def number(value: Any) -> Decimal:
    """A number as the file writes it; a float through its shortest text, so that 0.59 means 0.59."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("must be a number")
    try:
        parsed = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if not parsed.is_finite():
        raise ValueError("must be a finite number")
    return parsed


def _above_zero(value: Decimal) -> Decimal:
    if value <= 0:
        raise ValueError("must be above 0; what costs nothing would win every choice, so write what it is worth")
    return value


def not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise ValueError("must be 0 or more")
    return value


def _at_most_a_day(value: Decimal) -> Decimal:
    if value > _DAY_S:
        raise ValueError(f"must be at most {_DAY_S:,}, a day")
    return value


def _thousandths(value: Decimal) -> Decimal:
    if not 0 < value <= _MULTIPLIER_AT_MOST or value * 1000 != (value * 1000).to_integral_value():
        raise ValueError(f"must be above 0 and at most {_MULTIPLIER_AT_MOST}, with at most three decimals")
    return value


Usd = Annotated[Decimal, BeforeValidator(number), AfterValidator(_above_zero)]
Seconds = Annotated[Decimal, BeforeValidator(number), AfterValidator(not_negative), AfterValidator(_at_most_a_day)]
Multiplier = Annotated[Decimal, BeforeValidator(number), AfterValidator(_thousandths)]
GpuId = Annotated[str, AfterValidator(canonical_gpu)]


class ResourceBilling(StrEnum):
    """How a provider asks for CPU or memory."""

    INCLUDED = "included"  # in the GPU's price
    SEPARATE = "separate"  # on top, at the book's rate
    NOT_STATED = "not_stated"  # the source does not say: counted 0, and said so with each rate


class Shape(BaseModel):
    """Base of the shapes: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Priced(Shape):
    """A rate in dollars per hour or per second, whichever the source states."""

    usd_per_hour: Usd | None = None
    usd_per_second: Usd | None = None

    @property
    def has_price(self) -> bool:
        return self.usd_per_hour is not None or self.usd_per_second is not None

    def stated(self) -> tuple[Decimal, Literal["hour", "second"]]:
        """The source's own number and its unit; 0 an hour when there is none."""
        if self.usd_per_second is not None:
            return self.usd_per_second, "second"
        return self.usd_per_hour or Decimal(0), "hour"

    def nusd_per_h(self) -> int:
        """The rate in nano-dollars per hour, exactly."""
        usd, unit = self.stated()
        return rate_from_usd_per_s(usd) if unit == "second" else parse_usd(usd)

    @model_validator(mode="after")
    def _one_unit(self) -> Priced:
        if self.usd_per_hour is not None and self.usd_per_second is not None:
            raise ValueError(
                "has usd_per_hour and usd_per_second; keep the one that the source computes with"
                " (the other may go to also_stated_usd_per_hour)"
            )
        self.nusd_per_h()  # a rate that is no whole number of nano-dollars an hour is refused here
        return self


class GpuShape(Priced):
    """One GPU's price. `also_stated_usd_per_hour` is what the source writes beside the price it computes with."""

    gpu: GpuId
    also_stated_usd_per_hour: Usd | None = None
    source_says: str | None = None
    note: str = ""

    @model_validator(mode="after")
    def _has_price(self) -> GpuShape:
        if not self.has_price:
            raise ValueError(f"the price of {self.gpu} is missing; add usd_per_hour or usd_per_second")
        return self


class ResourceShape(Priced):
    """How CPU or memory is billed; a rate if, and only if, it is billed separately."""

    billing: ResourceBilling

    @model_validator(mode="after")
    def _rate_where_separate(self) -> ResourceShape:
        if self.billing is ResourceBilling.SEPARATE and not self.has_price:
            raise ValueError("is billed separately but has no price; add usd_per_hour or usd_per_second")
        if self.billing is not ResourceBilling.SEPARATE and self.has_price:
            raise ValueError(f"has a price but its billing is '{self.billing}'; write 'separate' or drop the price")
        return self


class CpuShape(ResourceShape):
    """`per: core` is a physical core, `per: vcpu` one of its two threads."""

    per: Literal["core", "vcpu"] = "core"


class TokenShape(Shape):
    """One model's price by the million tokens. `model` is what the provider calls it in requests."""

    model: Annotated[str, Field(min_length=1)]
    input_usd: Usd
    output_usd: Usd
    cached_input_usd: Usd | None = None
    note: str = ""

    @model_validator(mode="after")
    def _whole_nusd(self) -> TokenShape:
        for usd in (self.input_usd, self.output_usd, self.cached_input_usd or self.input_usd):
            parse_usd(usd)  # a price that is no whole number of nano-dollars is refused here
        if self.cached_input_usd is not None and self.cached_input_usd > self.input_usd:
            raise ValueError("cached_input_usd is above input_usd; a cache makes tokens cheaper, swap the two")
        return self


class AnyBookShape(Shape):
    """What every book states."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: str
    provider: str
    product: str = "serverless"
    source: str
    as_of: date | None
    effective_from: date | None
    series: str | None = None
    currency: Literal["USD"]
    notes: list[str] = []


class TokenBookShape(AnyBookShape):
    """A whole file of a provider that sells tokens only: nothing of containers applies to it."""

    product: str = "tokens"
    per_million_tokens: Annotated[list[TokenShape], Field(min_length=1)]


class BookShape(AnyBookShape):
    """A whole file of a provider that sells container time, and perhaps tokens too."""

    bills_image_pull: StrictBool | None
    bills_model_init: StrictBool | None
    bills_idle_tail: StrictBool | None
    min_increment_s: Seconds | None
    idle_default_s: Seconds | None
    cpu: CpuShape
    memory: ResourceShape
    region_multipliers: dict[str, Multiplier] = {}
    nonpreemptible_multiplier: Multiplier | None = None
    gpus: Annotated[list[GpuShape], Field(min_length=1)]
    per_million_tokens: list[TokenShape] = []
