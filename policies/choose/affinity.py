"""What a session's cache on a pool is worth: the prefill that a conversation's next turn does not take there.

Engines keep the KV cache of prompts they have processed and use it again for prompts that begin alike, until others
need the memory. No engine says what is left of it, so it is estimated, and never to more than the prefill of what the
pool has seen of this conversation:

- a pool without a ready container has none, and neither has one whose containers all started after the last turn;
- running requests take their memory from it: it is worth the share of the pool's KV tokens that they leave free;
- it is worth less with each second since the last turn, and nothing after `KEPT_S`.

`policies.choose.price` takes the saving off what the pool's candidate is sorted by. It makes no pool capable:
deadlines, budgets and holds are judged as if the cache were gone.
"""

from __future__ import annotations

from typing import Final

from policies.choose.ask import Ask, kv_tokens_free, kv_tokens_held
from policies.choose.facts import CachedPrefix
from policies.policy import Rung
from pools.live.state import PoolState
from pricing.clock import US_PER_S

KEPT_S: Final = 300.0
"""OpenAI says of its own cache that prefixes last 5 to 10 minutes without use: the shorter of the two."""


def freshness(ask: Ask, cached: CachedPrefix) -> float:
    """What is left of a cache's worth since the last turn, by time alone: 1 at once, 0 or less after `KEPT_S`."""
    return 1.0 - max(0, ask.now_us - cached.used_us) / (KEPT_S * US_PER_S)


def cache_saves_s(ask: Ask, cached: CachedPrefix, rung: Rung, state: PoolState) -> float:
    """Expected seconds of prefill saved on the pool that `cached` names; 0 where its cache must be gone.

    Example: 8,000 tokens seen 60 s ago, which take 0.5 s of prefill, with half of the pool's memory in use: 0.2 s.
    """
    since_us = state.serving_since_us
    if state.ready == 0 or (since_us is not None and since_us > cached.used_us):
        return 0.0
    held = kv_tokens_held(rung, state)
    fresh = freshness(ask, cached)
    if fresh <= 0.0 or held <= 0:
        return 0.0
    left = max(0, kv_tokens_free(rung, state)) / held
    prompt_tokens = ask.requirements.prompt_tokens
    return fresh * left * rung.timing.cache_saves_s(prompt_tokens, min(cached.tokens, prompt_tokens))
