"""The shape of a scenario file: figures that somebody states about costs, and how to compute each from a price book.

`pricing/documents/*.yaml` are such files, one for each source document; docs/price-books.md says how to write another.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pricing.prices.schema import GpuId, Shape, Usd, not_negative, number

Range = tuple[Decimal, Decimal]


def _range(value: Any) -> Range:
    """One number, or [low, high]."""
    ends = value if isinstance(value, list) else [value, value]
    if len(ends) != 2:
        raise ValueError("must be one number or [low, high]")
    low, high = (not_negative(number(end)) for end in ends)
    if low > high:
        raise ValueError(f"is a range that runs backwards: {low} to {high}")
    return low, high


Span = Annotated[Range, BeforeValidator(_range)]
Amount = Annotated[Decimal, BeforeValidator(number), AfterValidator(not_negative)]
Count = Annotated[int, Field(ge=1)]


class LoadShape(Shape):
    """`requests` runs on a container of `gpus` × `gpu`, each of `seconds`, or of `tokens` at `tokens_per_second`.

    `idle_s` is billed after each run. `cpu_cores` and `memory_gib` are the container's; most sources name none (0).
    """

    name: str = ""
    gpu: GpuId
    gpus: Count = 1
    requests: Count = 1
    seconds: Span | None = None
    tokens: Count | None = None
    tokens_per_second: Span | None = None
    idle_s: Amount = Decimal(0)
    cpu_cores: Amount = Decimal(0)
    memory_gib: Amount = Decimal(0)

    def seconds_each(self) -> Range:
        """How long one run takes, shortest and longest, without its idle time."""
        if self.seconds is not None:
            return self.seconds
        slow, fast = self.tokens_per_second or (Decimal(1), Decimal(1))
        return Decimal(self.tokens or 0) / fast, Decimal(self.tokens or 0) / slow

    @model_validator(mode="after")
    def _one_time(self) -> LoadShape:
        by_tokens = self.tokens is not None and self.tokens_per_second is not None and self.tokens_per_second[0] > 0
        half = (self.tokens is None) != (self.tokens_per_second is None)
        if half or by_tokens == (self.seconds is not None):
            raise ValueError("needs either seconds, or tokens and tokens_per_second (above 0)")
        return self


class CostShape(Shape):
    """Loads added up, `times` over. `round_decimals` rounds dollars before multiplying, as some sources do."""

    loads: Annotated[list[LoadShape], Field(min_length=1)]
    times: Count = 1
    round_decimals: Annotated[int, Field(ge=0, le=9)] | None = None


class PairShape(Shape):
    before: CostShape
    after: CostShape


class CreditShape(Shape):
    """What an amount buys on one container."""

    usd: Usd
    gpu: GpuId
    gpus: Count = 1


class ComputeShape(Shape):
    """Exactly one way to compute a figure; its name fixes the unit."""

    cost: CostShape | None = None  # dollars
    saved: PairShape | None = None  # dollars, before less after
    saving: PairShape | None = None  # per cent of before
    ratio: PairShape | None = None  # before over after
    hours_bought: CreditShape | None = None
    seconds_bought: CreditShape | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> ComputeShape:
        if sum(getattr(self, name) is not None for name in type(self).model_fields) != 1:
            raise ValueError(f"needs exactly one of {', '.join(type(self).model_fields)}")
        return self


class ClaimShape(Shape):
    """One figure. `says` is the source's text, `stated` its number or range; neither where the source is silent.

    `reading` says how the figure is understood where there is more than one way; `decimals` are those of `stated`.
    """

    id: str
    table: str
    claim: str
    reading: str = ""
    says: str | None = None
    stated: Span | None = None
    decimals: Annotated[int, Field(ge=0, le=9)] = 2
    show_decimals: Annotated[int, Field(ge=0, le=9)] | None = None
    book: str | None = None
    compute: ComputeShape
    remark: str = ""

    @model_validator(mode="after")
    def _says_and_stated(self) -> ClaimShape:
        if (self.says is None) != (self.stated is None):
            raise ValueError("needs says and stated together, or neither")
        return self


class ScenarioShape(Shape):
    """A whole file. `book` is the price book that figures are computed from."""

    title: str
    as_of: date | None
    book: str
    claims: Annotated[list[ClaimShape], Field(min_length=1)]
