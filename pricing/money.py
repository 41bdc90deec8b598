"""Money: integer nano-dollars, and the only place where text, Decimal and rates become integers.

Units: amounts are nano-dollars (`_nusd`), rates are nano-dollars per hour (`_nusd_per_h`), durations are
microseconds (`_us`). Every rounding is named by its function; a bare `round()` on money is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

NUSD_PER_USD = 1_000_000_000
US_PER_HOUR = 3_600_000_000
S_PER_HOUR = 3_600
_NANO = Decimal("1e-9")
_LARGEST_EXPONENT = 15  # with nine decimals, within the 28 digits that Decimal keeps; no price or cap comes near


def parse_usd(value: str | int | float | Decimal) -> int:
    """Dollars to nano-dollars, exactly. A float goes through its shortest text, so 0.59 means 0.59.

    Raises ValueError for text that is no number, for NaN or infinity, and for more than nine decimals.
    """
    if isinstance(value, bool):
        raise ValueError(f"not an amount of dollars: {value!r}")
    text = str(value)
    try:
        dollars = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not an amount of dollars: {value!r}") from None
    if not text.isascii() or not dollars.is_finite() or dollars.adjusted() > _LARGEST_EXPONENT:
        raise ValueError(f"not an amount of dollars: {text[:40]!r}")
    whole_nano = dollars.quantize(_NANO)
    if whole_nano != dollars:
        raise ValueError(f"{text[:40]} has more than nine decimals; a nano-dollar is the smallest amount")
    return int(whole_nano.scaleb(9))


def rate_from_usd_per_s(value: str | int | float | Decimal) -> int:
    """Dollars per second to nano-dollars per hour, exactly ($0.000164/s is 590,400,000)."""
    per_hour = Decimal(str(value)) * S_PER_HOUR
    return parse_usd(per_hour)


def ceil_nusd(numerator: int, denominator: int) -> int:
    """Round up: for holds and bounds, which must never be too small."""
    return -(-numerator // denominator)


def half_even_nusd(numerator: int, denominator: int) -> int:
    """Round half to even: for actual amounts, so that many roundings do not drift."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


def cost_nusd(rate_nusd_per_h: int, duration_us: int) -> int:
    """What `duration_us` at a rate costs, rounded half to even."""
    return half_even_nusd(rate_nusd_per_h * duration_us, US_PER_HOUR)


def to_usd(nusd: int) -> Decimal:
    """Nano-dollars as exact dollars."""
    return Decimal(nusd) / NUSD_PER_USD


def apportion(amount: int, weights: Sequence[int]) -> list[int]:
    """Whole parts of an amount of either sign, in proportion to weights of 0 or more, that add up to it.

    By largest remainder (Hamilton's method): each part is its quota rounded down, and what is left goes, one each, to
    the largest remainders, the first of equal ones. Raises ValueError where all weights are 0.
    """
    whole = sum(weights)
    if whole <= 0:
        raise ValueError("nothing to apportion by: all weights are 0")
    parts = [amount * weight // whole for weight in weights]
    left = amount - sum(parts)
    largest = sorted(range(len(weights)), key=lambda index: (-(amount * weights[index] % whole), index))
    for index in largest[:left]:
        parts[index] += 1
    return parts


def usd_number(nusd: int) -> float:
    """Nano-dollars as a JSON number of dollars. For display and OpenAI-shaped bodies only, never for sums."""
    return nusd / NUSD_PER_USD


def format_usd(nusd: int, decimals: int = 4) -> str:
    """Nano-dollars as text with a dollar sign, rounded half to even: `$0.0130`; `-$1.50`."""
    unit = 10 ** (9 - decimals)
    scaled = half_even_nusd(abs(nusd), unit)
    whole, fraction = divmod(scaled, 10**decimals)
    sign = "-" if nusd < 0 and scaled else ""
    tail = f".{fraction:0{decimals}d}" if decimals else ""
    return f"{sign}${whole:,}{tail}"
