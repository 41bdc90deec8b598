"""How long answers are where nothing is known of a tenant: what a production chat service answered.

The Azure conversation trace of 2023 (github.com/Azure/AzurePublicDataset, CC-BY 4.0; 10,108 requests of 30 minutes):
median and 90th percentile of the output tokens of prompts below 256, from 256 to 2,047, and from 2,048 tokens on.
Between the middles of these ranges the logarithms are interpolated, so that no prompt is one token away from another
prior.
"""

from __future__ import annotations

from math import log1p, log2
from typing import Final

_SIZES: Final = (7.0, 9.5, 12.0)  # log2 of the prompt's tokens
_TOKENS: Final = ((165.0, 217.0), (200.0, 433.0), (58.0, 130.0))  # QUANTILES of 985, 7,518 and 1,605 answers
_LOGS: Final = tuple((log1p(median), log1p(p90)) for median, p90 in _TOKENS)


def prior_logs(prompt_tokens: int) -> tuple[float, float]:
    """ln(1 + tokens) at `QUANTILES`."""
    size = log2(prompt_tokens + 1)
    if size <= _SIZES[0]:
        return _LOGS[0]
    if size >= _SIZES[2]:
        return _LOGS[2]
    place = 0 if size < _SIZES[1] else 1
    share = (size - _SIZES[place]) / (_SIZES[place + 1] - _SIZES[place])
    (median, p90), (next_median, next_p90) = _LOGS[place], _LOGS[place + 1]
    return median + share * (next_median - median), p90 + share * (next_p90 - p90)
