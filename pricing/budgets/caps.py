"""Caps: an amount, a window, a scope and thresholds, and how files write them.

`24h`, `7d`, `90m` are windows that roll; `1mo` is a calendar month. `tenant:acme` is a scope. `80%` is a threshold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from pricing.errors import Shortfall

BUCKET_S: Final = 900  # spend is kept in 15-minute buckets
LARGEST_NUSD: Final = (1 << 53) - 1  # up to here Redis's numbers, which are doubles, lose nothing: 9,007,199 dollars
LONGEST_ROLLING_S: Final = 31 * 86_400  # how far back a store keeps its buckets at hand
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400}


class Unlimited(Enum):
    """The word `unlimited`, which is not 0 and not None."""

    UNLIMITED = "unlimited"


class ScopeKind(StrEnum):
    TENANT = "tenant"
    KEY = "key"
    CLASS = "class"
    POOL = "pool"
    TAG = "tag"
    ENDPOINT = "endpoint"


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What a cap limits, `tenant:acme`. For caps that combine, a request carries every scope it belongs to.

    A struct: a request looks its scopes up many times, and to hash one costs a tenth of what a dataclass costs.
    """

    kind: ScopeKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class Window:
    """A span in which spend is counted: `24h`, `7d`, `30d` roll; `1mo` is a calendar month in the file's zone.

    `rolling_s` None means a calendar month. A rolling window is conservative by one 15-minute bucket.
    """

    text: str
    rolling_s: int | None


@dataclass(frozen=True, slots=True)
class TemporaryRaise:
    amount_nusd: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Cap:
    """One cap. Thresholds are parts per thousand of the amount: 800 is 80%; None switches one off."""

    name: str
    scope: Scope
    amount_nusd: int | Unlimited
    window: Window
    warn_permille: int | None = 800
    lower_tier_permille: int | None = None
    raises: tuple[TemporaryRaise, ...] = ()
    place: str = field(default="", compare=False)  # a cap that has moved in its file is the same cap

    @property
    def label(self) -> str:
        """What people call it: `acme/day` for a tenant's cap, `pool:l4/day` for any other scope."""
        whose = self.scope.value if self.scope.kind is ScopeKind.TENANT else str(self.scope)
        return f"{whose}/{self.name}"

    @property
    def warns_as(self) -> tuple[str, str]:
        """By what it is remembered that it has warned: its label, and what it allows. Edited, it may warn anew."""
        return self.label, f"{self.amount_nusd} per {self.window.text}"

    def amount_at(self, wall_us: int) -> int | Unlimited:
        """The amount in force at an instant: the file's, or the highest temporary raise that has not ended."""
        if not self.raises or isinstance(self.amount_nusd, Unlimited):
            return self.amount_nusd
        return max(self.amount_nusd, *(r.amount_nusd if wall_us < r.until_us else 0 for r in self.raises))

    def reached(self, permille: int | None, used_nusd: int, wall_us: int) -> bool:
        """Whether so much is at a threshold of the amount in force, or past it. Nothing used reaches none."""
        amount = self.amount_at(wall_us)
        if permille is None or isinstance(amount, Unlimited):
            return False
        return used_nusd > 0 and used_nusd * 1000 >= amount * permille

    def shortfall(
        self, amount_nusd: int, spent_nusd: int, held_nusd: int, needed_nusd: int, frees_at_us: int | None
    ) -> Shortfall:
        """A refusal by this cap, whose amount in force is `amount_nusd`."""
        return Shortfall(
            cap=self.label,
            scope=str(self.scope),
            window=self.window.text,
            amount_nusd=amount_nusd,
            spent_nusd=spent_nusd,
            held_nusd=held_nusd,
            needed_nusd=needed_nusd,
            frees_at_us=frees_at_us,
        )


class Dimension(StrEnum):
    """What a rate limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    IN_FLIGHT = "in_flight"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a tenant or key may ask for. None: no limit; 0 lets nothing through. `in_flight` counts open holds."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class CapTable:
    """All caps and rate limits in force, and the time zone of calendar windows.

    `by_scope` and `pools`, the pools that are capped, follow from `caps`; they are made with the table, since a request
    has no time to look through tens of thousands of caps.
    """

    caps: tuple[Cap, ...]
    timezone: ZoneInfo
    limits: Mapping[Scope, RateLimits] = field(default_factory=dict)
    by_scope: Mapping[Scope, tuple[Cap, ...]] = field(init=False, repr=False, compare=False)
    pools: tuple[Scope, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_scope: dict[Scope, tuple[Cap, ...]] = {}
        for cap in self.caps:
            by_scope[cap.scope] = (*by_scope.get(cap.scope, ()), cap)
        pools = tuple(scope for scope in by_scope if scope.kind is ScopeKind.POOL)
        object.__setattr__(self, "by_scope", by_scope)
        object.__setattr__(self, "pools", pools)

    def keeping(self, before: CapTable) -> CapTable:
        """This table with the very caps of an earlier one where a scope's are equal: whoever keeps something for each
        cap then sees at a glance which have changed.
        """
        kept: dict[int, Cap] = {}
        for scope, caps in self.by_scope.items():
            known = before.by_scope.get(scope)
            if known == caps:
                kept.update(zip(map(id, caps), known, strict=True))
        return CapTable(tuple(kept.get(id(cap), cap) for cap in self.caps), self.timezone, self.limits)

    def find(self, label: str) -> Cap | None:
        """The cap that people call so."""
        whose, _, name = label.rpartition("/")
        try:
            scope = parse_scope(whose if ":" in whose else f"{ScopeKind.TENANT}:{whose}")
        except ValueError:
            return None
        return next((cap for cap in self.by_scope.get(scope, ()) if cap.name == name), None)


def parse_window(text: str) -> Window:
    """`24h`, `7d`, `30d`, `90m` or `1mo`. Raises ValueError for anything else.

    A rolling window is a whole number of 15-minute buckets, at least one and at most 31 days.
    """
    if text == "1mo":
        return Window(text, None)
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise ValueError(f"'{text}' is not a window; write 24h, 7d, 30d or another rolling span, or 1mo")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds % BUCKET_S or seconds > LONGEST_ROLLING_S:
        raise ValueError(
            f"window '{text}' must be a multiple of 15 minutes and at most 31 days; 1mo is a calendar month"
        )
    return Window(text, seconds)


def parse_scope(text: str) -> Scope:
    """`tenant:acme`, `pool:l4-chat`, `tag:batch`. Raises ValueError for an unknown kind or an empty value."""
    kind, _, value = text.partition(":")
    if kind not in ScopeKind.__members__.values() or not value:
        kinds = ", ".join(ScopeKind)
        raise ValueError(f"'{text}' is not a scope; write kind:value with one of these kinds: {kinds}")
    return Scope(ScopeKind(kind), value)


def parse_permille(text: str | int | float) -> int:
    """`80%` or `0.8` as parts per thousand, 1 to 1000. Raises ValueError."""
    written = str(text).strip()
    try:
        share = Decimal(written[:-1]) / 100 if written.endswith("%") else Decimal(written)
    except ArithmeticError:  # no number, or one beyond any
        raise ValueError(f"'{text}' is not a share; write 80% or 0.8") from None
    if share.is_nan():
        raise ValueError(f"'{text}' is not a share; write 80% or 0.8")
    permille = share * 1000
    if not 1 <= permille <= 1000 or permille != int(permille):
        raise ValueError(f"'{text}' must be between 0.1% and 100%, in steps of 0.1%")
    return int(permille)
