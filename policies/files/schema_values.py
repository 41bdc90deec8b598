"""Values of policy files: dollars, shares, seconds, windows and names, each with what it may be.

A value that is none is refused with what would be one. Amounts stay exact: they are Decimal until they become integers.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from pricing.budgets.caps import LARGEST_NUSD, parse_permille, parse_scope, parse_window
from pricing.money import parse_usd
from pricing.nearest import nearest

LARGEST_RATE: Final = 1_000_000_000_000  # far above any traffic, and exact wherever it is counted
_TRIED_FIRST: Final = (
    "",
    "foo",
    "bar",
    "test",
    "key",
    "apikey",
    "api-key",
    "your-api-key",
    "password",
    "secret",
    "changeme",
    "change-me",
    "admin",
    "example",
    "none",
    "null",
    "dummy",
    "default",
    "token",
    "123456",
    "EMPTY",
    "sk-test",
    "sk-1234",
    "sk-secret",
    "not-checked-until-a-policy-names-tenants",
)
WELL_KNOWN_KEYS: Final = frozenset(hashlib.sha256(key.encode()).hexdigest() for key in _TRIED_FIRST)
"""Of what stands in examples and is guessed first; the empty one is what an unset variable gives."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
"""Letters, digits, dot, hyphen, underscore; starts with a letter or digit, so that no tenant is called `__idle__`."""

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=80)]
"""Of an environment variable."""

FileName = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
"""Of a file or folder, relative to the policy file or not."""

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _usd(value: object) -> Decimal | str:
    """A dollar amount as exact Decimal, or the word `unlimited`."""
    if value == "unlimited":
        return "unlimited"
    if not isinstance(value, int | float | str | Decimal):
        raise ValueError("an amount of dollars, or the word unlimited")
    try:
        nusd = parse_usd(value)
    except ValueError as error:
        raise ValueError(f"{error}{nearest(str(value), ['unlimited'])}") from None
    if nusd < 0:
        raise ValueError("an amount cannot be negative; 0 lets nothing through, unlimited lets everything through")
    if nusd > LARGEST_NUSD:
        raise ValueError("an amount is at most 9,007,199 dollars, which is as far as replicas can count; or unlimited")
    return Decimal(str(value))


def _rate(value: object) -> int | str:
    """A whole number, or the word `unlimited`."""
    if value == "unlimited":
        return "unlimited"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a limit is a whole number, such as 600, or the word unlimited")
    if value < 0:
        raise ValueError("a limit cannot be negative; 0 lets nothing through, unlimited lets everything through")
    if value > LARGEST_RATE:
        raise ValueError(f"a limit is at most {LARGEST_RATE:,}; for no limit at all, write unlimited")
    return value


def _exact(value: float) -> float:
    """Dollars that are a whole number of nano-dollars."""
    parse_usd(value)
    return value


def _share(value: object) -> object:
    """`20%` or `0.2` as a number from 0 to 1."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(Decimal(value.strip().removesuffix("%")) / 100)
        except ArithmeticError:
            raise ValueError("a share like 20% or 0.2") from None
    return value


def _amount(value: object) -> object:
    """A dollar amount that is not `unlimited`: a raise must have one."""
    if value == "unlimited":
        raise ValueError("a raise has an amount; for no limit at all, write amount_usd: unlimited on the cap")
    return _usd(value)


def _allowance(value: object) -> object:
    """A dollar amount above 0: what lets nothing through has a word of its own."""
    amount = "unlimited" if value == "unlimited" else _usd(value)
    if not isinstance(amount, Decimal) or amount <= 0:
        raise ValueError("an allowance is an amount of dollars above 0; to let nothing through, on_store_down: reject")
    return amount


def _permille(value: Any) -> int | None:
    """`80%` as 800; `off` as None."""
    return None if value is False or value == "off" else parse_permille(value)  # YAML 1.1 reads a bare off as false


def _window(text: str) -> str:
    parse_window(text)
    return text


def _scope(text: str) -> str:
    parse_scope(text)
    return text


_SHARE_AS_WRITTEN: Final = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$"},
    ]
}
"""For editors: what a file may hold, before `20%` has become 0.2."""

Usd = Annotated[Decimal | Literal["unlimited"], BeforeValidator(_usd)]
Amount = Annotated[Decimal, BeforeValidator(_amount)]
Allowance = Annotated[Decimal, BeforeValidator(_allowance)]
ExactDollars = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_exact)]
Rate = Annotated[
    int | Literal["unlimited"],
    BeforeValidator(_rate),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": LARGEST_RATE}, {"const": "unlimited"}]}),
]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1), WithJsonSchema(_SHARE_AS_WRITTEN)]
Permille = Annotated[
    int | None, BeforeValidator(_permille), WithJsonSchema({"anyOf": [_SHARE_AS_WRITTEN, {"enum": ["off", False]}]})
]
WindowText = Annotated[str, AfterValidator(_window)]
ScopeText = Annotated[str, AfterValidator(_scope)]
