"""What caps' windows in Redis say that they have spent, for whoever holds it against the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pricing.budgets.caps import Cap, CapTable
from pricing.budgets.windows import Span, bucket_of, month_around, span_at
from pricing.ledger.checks import usd
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.keys import prefix_of
from pricing.redis.packing import key_part
from pricing.redis.scripts import script
from pricing.verify.cap_windows import WindowSeen

BATCH: Final = 20  # caps a script, each of which may have to sum a month; replicas serve meanwhile
_REPLIED: Final = 3  # words a cap


@dataclass(frozen=True, slots=True)
class WindowsSeen:
    """All caps' windows, read one after another; from `first_id` of the stream on, rows may be in some and not in
    others. `apart` is where a window's own sum is not that of its buckets.
    """

    first_id: tuple[int, int]
    windows: tuple[WindowSeen, ...]
    apart: tuple[str, ...]


async def windows_seen(client: RedisClient, namespace: str, caps: CapTable, now_us: int) -> WindowsSeen:
    """Raises StoreUnavailable, RedisReplyError."""
    prefix = prefix_of(namespace)
    first_id: tuple[int, int] | None = None
    windows, apart = list[WindowSeen](), list[str]()
    for batch in _batches(caps.caps):
        words: list[Word] = [now_us]
        for cap in batch:
            words += [key_part(str(cap.scope)), cap.window.rolling_s or 0, *_month(cap, caps, now_us)]
        last_id, *numbers = await client.evalsha(script("windows_seen"), [prefix], words)
        ms, _, number = last_id.partition(b"-")
        first_id = first_id or (int(ms), int(number))
        for place, cap in enumerate(batch):
            first, spent, in_buckets = (int(each) for each in numbers[_REPLIED * place : _REPLIED * (place + 1)])
            span = span_at(cap.window, now_us, caps.timezone)
            windows.append(WindowSeen(cap, Span(first, span.end, span.from_us, span.until_us), spent))
            if spent != in_buckets:
                apart.append(
                    f"cap {cap.label}: its buckets are {usd(in_buckets)}, its window of {cap.window.text} "
                    f"says {usd(spent)}"
                )
    return WindowsSeen(first_id or (0, 0), tuple(windows), tuple(apart))


def _month(cap: Cap, caps: CapTable, now_us: int) -> tuple[int, int]:
    """First and end bucket of the calendar month; zeros for a window that rolls."""
    if cap.window.rolling_s is not None:
        return 0, 0
    begin_us, end_us = month_around(now_us, caps.timezone)
    return bucket_of(begin_us), bucket_of(end_us)


def _batches(caps: Sequence[Cap]) -> Iterator[Sequence[Cap]]:
    return (caps[begin : begin + BATCH] for begin in range(0, len(caps), BATCH))
