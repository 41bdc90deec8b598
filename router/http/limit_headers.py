"""What answers say of limits: `x-ratelimit-*` as OpenAI writes them, and what is left of the tightest budget."""

from __future__ import annotations

from pricing.budgets.store import RateStanding, Standing
from pricing.money import NUSD_PER_USD

HeaderList = list[tuple[bytes, bytes]]


def limit_headers(standing: Standing, left_nusd: int | None) -> HeaderList:
    """`left_nusd` is what the tightest cap leaves; None, and no header, where nothing limits."""
    headers: HeaderList = []
    if standing.requests is not None:
        headers += _rate(b"requests", standing.requests)
    if standing.tokens is not None:
        headers += _rate(b"tokens", standing.tokens)
    if left_nusd is not None:
        headers.append((b"x-sluice-budget-remaining-usd", usd_bytes(left_nusd)))
    return headers


def _rate(dimension: bytes, rate: RateStanding) -> HeaderList:
    return [
        (b"x-ratelimit-limit-" + dimension, b"%d" % rate.limit),
        (b"x-ratelimit-remaining-" + dimension, b"%d" % rate.remaining),
        (b"x-ratelimit-reset-" + dimension, reset_text(rate.resets_s).encode()),
    ]


def reset_text(seconds: float) -> str:
    """A duration as OpenAI writes it: `450ms`, `12s`, `6m0s`; rounded up."""
    if seconds < 1:
        milliseconds = max(0, -int(-seconds * 1000 // 1))
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(-int(-seconds // 1), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def usd_bytes(nusd: int) -> bytes:
    """Dollars with all of their nine decimals, of an amount of 0 or more."""
    dollars, rest = divmod(nusd, NUSD_PER_USD)
    return b"%d.%09d" % (dollars, rest)
