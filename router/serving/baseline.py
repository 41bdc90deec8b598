"""What a request would have been charged had its class only its premium pool: the baseline that savings refer to.

The same rule as the meter's: all of the class's running requests share the premium pool's containers, as many as its
target concurrency asks for. Busy time only, like the charge it is compared with; boots and idle time of either side
are compared at the level of whole pools, where they happen.
"""

from __future__ import annotations

from pricing.prices.quote import expected_charge_nusd, share_nusd_per_h
from router.serving.chain import Chain


def baseline_nusd(chain: Chain) -> int | None:
    """Nano-dollars; None where the tokens of the answer are not known, or no picture or clip came."""
    if chain.completion_tokens is None and chain.made is None:
        return None
    name = chain.request_class.premium_pool
    rung = next(rung for rung in chain.request_class.ladder if rung.pool.name == name)
    prompt_tokens = chain.prompt_tokens or chain.requirements.prompt_tokens
    if rung.rate.tokens is not None:
        return rung.rate.tokens.cost_nusd(prompt_tokens, chain.completion_tokens or 0)
    target = rung.pool.target_concurrency
    running = chain.neighbours + 1
    containers = -(-running // target)
    beside = -(-running // containers) - 1
    if chain.requirements.media is not None:
        service = rung.timing.estimate_media(chain.requirements.media, beside)
    else:
        service = rung.timing.estimate(prompt_tokens, chain.completion_tokens or 0, beside)
    share = share_nusd_per_h(rung.rate.nusd_per_h, containers, chain.neighbours, target)
    return expected_charge_nusd(share, service.total_s)
