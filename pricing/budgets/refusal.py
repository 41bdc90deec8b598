"""What a refused request is told: which cap, how much is missing, until when, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from pricing.clock import US_PER_S
from pricing.errors import BudgetExceeded, Shortfall
from pricing.money import to_usd


def refuse(shortfall: Shortfall, wall_us: int, zone: ZoneInfo) -> BudgetExceeded:
    """The error for one cap's shortfall, with its times in the caps' time zone.

    Its last words are the remedy; whoever knows of another may go on from there.
    """
    needs = f"budget `{shortfall.cap}`: needs {usd_text(shortfall.needed_nusd)} USD"
    if shortfall.frees_at_us is None:
        whole = f"the whole cap is {usd_text(shortfall.amount_nusd)} per {shortfall.window}"
        return BudgetExceeded(shortfall, f"{needs}, {whole}; raise it")
    left = f"{usd_text(shortfall.left_nusd)} left until {_time_text(shortfall.frees_at_us, wall_us, zone)}"
    return BudgetExceeded(shortfall, f"{needs}, {left}; raise it")


def usd_text(nusd: int) -> str:
    """Exact dollars without a sign of currency: two decimals, more where the amount has them."""
    text = f"{to_usd(nusd):.9f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _time_text(at_us: int, wall_us: int, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(at_us // US_PER_S, UTC).astimezone(zone)
    now = datetime.fromtimestamp(wall_us // US_PER_S, UTC).astimezone(zone)
    within_a_day = (at_us - wall_us) <= 86_400 * US_PER_S and (at.date() == now.date() or at.hour == at.minute == 0)
    return at.strftime("%H:%M %Z" if within_a_day else "%Y-%m-%d %H:%M %Z")
