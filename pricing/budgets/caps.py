"""Caps: an amount, a window, a scope and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final
from zoneinfo import ZoneInfo

BUCKET_S: Final = 900  # spend is kept in 15-minute buckets


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


@dataclass(frozen=True, slots=True)
class Scope:
    """What a cap limits, `tenant:acme`. For caps that combine, a request carries every scope it belongs to."""

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
    place: str = ""


@dataclass(frozen=True, slots=True)
class CapTable:
    """All caps in force and the time zone of calendar windows."""

    caps: tuple[Cap, ...]
    timezone: ZoneInfo
