"""Latencies and speeds on a logarithmic scale, so that a month's percentiles are read from counts.

A bucket stands for `1.02 ** bucket`: milliseconds for latencies, thousandths of a token a second for speeds. A value
counts in the nearest one on that scale, so what is read back is wrong by at most 1% (1.02 ** 0.5 - 1 = 0.995%) either
way. Counts are added up freely, over hours, pools and tenants, which percentiles themselves cannot be.

`pricing.ledger.rollups` says the same in SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log
from typing import Final

BASE: Final = 1.02
SMALLEST: Final = 0.001  # a microsecond in milliseconds: what is less, also nothing at all, counts as that


def bucket_of(value: float) -> int:
    """The bucket of a number of milliseconds, or of thousandths of a token a second."""
    return round(log(max(value, SMALLEST)) / log(BASE))


def value_of(bucket: int) -> float:
    """What a bucket stands for, in the unit of the values that were counted in it."""
    return float(BASE**bucket)


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The smallest value that the share `q` of all counted ones does not exceed (nearest rank); None of nothing.

    `counts` is how many values fell into each bucket. Raises ValueError for a share outside 0 to 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"{q} is not a share between 0 and 1")
    rank = max(1, ceil(q * sum(counts.values())))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return value_of(bucket)
    return None
