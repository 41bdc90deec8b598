"""What a request would cost on a pool that is billed by the token: the bill is what its tenant pays, and nothing else.

There is no boot and no idle time, so both numbers of a candidate are one. What the provider's own cache is expected to
hold of a session is taken off what the pool is sorted by, and off nothing else, as with caches of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policies.choose.affinity import freshness
from policies.choose.ask import Ask
from policies.choose.decision import Candidate
from policies.choose.objectives import Score
from policies.policy import Rung
from pricing.money import S_PER_HOUR, ceil_nusd
from pricing.prices.token_price import TOKENS_PER_PRICE, TokenPrice

_MILLI: Final = 1000  # tokens a second are counted to the thousandth


def price_by_tokens(
    ask: Ask, rung: Rung, price: TokenPrice, score: Score, preference: Callable[[Rung, float], int] | None
) -> Candidate:
    """The candidate of one pool, as `policies.choose.price.price` makes those of the others."""
    pool, needs = rung.pool, ask.requirements
    prompt, output = needs.prompt_tokens, needs.expected_output_tokens
    time = rung.timing.estimate(prompt, output, 0)
    bill = price.expected_nusd(prompt, output)
    saves = 0
    if ask.cached is not None and ask.cached.pool == pool.name:
        known = int(min(ask.cached.tokens, prompt) * max(0.0, freshness(ask, ask.cached)))
        saves = bill - price.expected_nusd(prompt, output, known)
    return Candidate(
        pool,
        rung.tier,
        bill,
        bill,
        time.total_s,
        time.ttft_s,
        time.ttft_p95_s,
        0.0,
        False,
        spending_nusd_per_h(price, 0.0 if pool.terms is None else pool.terms.tokens_per_s),
        score(rung.order, bill - saves, time.total_s),
        0,
        preference(rung, time.total_s) if preference is not None else 0,
        0.0,
        saves,
    )


def spending_nusd_per_h(price: TokenPrice, tokens_per_s: float) -> int:
    """What one answer costs an hour for as long as it is being written, rounded up: what its hold grows by."""
    return ceil_nusd(price.output_nusd * round(tokens_per_s * _MILLI) * S_PER_HOUR, TOKENS_PER_PRICE * _MILLI)
