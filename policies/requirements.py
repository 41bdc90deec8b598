"""What one request needs of a pool."""

from __future__ import annotations

from enum import StrEnum
from math import ceil
from typing import Final

import msgspec

from pools.media import MediaAsked, patches
from pools.spec import ONE_PICTURE, KvCache, MediaSize, PoolSpec

TAKES_TOKEN_IDS: Final = "vllm"  # the engine whose `/v1/completions` goes on behind token ids, and that names its own


class Tier(StrEnum):
    """Quality asked for. A pool listed in a tier may serve that tier and those below.

    `rank` is 0 for economy, 2 for premium: a plain attribute, because `decide` reads it for every pool.
    """

    rank: int

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"

    def __init__(self, value: str) -> None:
        self.rank = ("economy", "standard", "premium").index(value)

    @property
    def below(self) -> Tier | None:
        """The next tier down; None for the lowest."""
        return list(Tier)[self.rank - 1] if self.rank else None


class Continues(msgspec.Struct, frozen=True):
    """How a stream that broke can go on: exactly, on pools whose model shares `tokenizer`, since what was said is known
    in its token ids (None: it is not); or, on other pools, from its text where `by_text`.
    """

    tokenizer: str | None
    by_text: bool


def shares_tokens(continues: Continues, pool: PoolSpec) -> bool:
    """Whether the pool can go on by token ids: the same tokenizer, and an engine that takes them."""
    return continues.tokenizer == pool.model.tokenizer and pool.engine == TAKES_TOKEN_IDS


class Requirements(msgspec.Struct, frozen=True):
    """What `decide` must satisfy. Token counts are tokens of the class's models.

    `output_bound` is the client's `max_tokens`, or the class's default where the client gave none (`bounded` False);
    `expected_output_tokens` is what is likely, and sizes time and money; `running_output_tokens` what answers that run
    at one moment come to on average, which is more (None where too few were seen: then the bound counts). `pinned_pool`
    is set when the client named a pool: nothing else may serve it and it is never lowered. `deadline_s` is what is left
    until the first token must be there, or the whole picture or clip. `media_items` counts images or clips for media
    classes (then token counts are 0); `media` is what of them is asked for, None where only their number is known, and
    `media_item` the size that the class's first pool makes by itself. `session_id` names the client's session without
    telling its name.

    A request may be for several `sequences`, `n` answers to each of its prompts. Prompt and output are those of all
    together, `longest_share` is the part of the prompt's tokens that its longest prompt has. `continues` is set for
    the rest of an answer whose stream broke; the tokens it has so far are part of the prompt.
    """

    request_class: str
    tier: Tier
    prompt_tokens: int
    output_bound: int
    expected_output_tokens: int
    deadline_s: float
    prompt_exact: bool = False
    bounded: bool = True
    features: frozenset[str] = frozenset()
    stream: bool = False
    session_id: str | None = None
    pinned_pool: str | None = None
    media_items: int = 1
    media: MediaAsked | None = None
    media_item: MediaSize = ONE_PICTURE
    sequences: int = 1
    longest_share: float = 1.0
    running_output_tokens: int | None = None
    continues: Continues | None = None

    @property
    def total_tokens(self) -> int:
        """What shapes are buckets of: prompt and output bound, or latent patches."""
        if self.media is not None:
            return patches(self.media, self.media_item)
        return self.prompt_tokens + self.output_bound

    @property
    def context_tokens(self) -> int:
        """Of the longest sequence, prompt and output bound: what a pool's `max_model_len` must hold."""
        if self.sequences == 1:
            return self.prompt_tokens + self.output_bound
        return ceil(self.prompt_tokens * self.longest_share) + self.output_bound // self.sequences

    def kv_tokens(self, cache: KvCache) -> int:
        """What the request counts for beside others in a pool's memory. A paged cache evens out what was predicted too
        short; in a contiguous one that costs the whole batch, so what runs there is counted as long as it will be.
        """
        output = self.expected_output_tokens if cache is KvCache.PAGED else self.running_output_tokens
        return self.prompt_tokens + (self.output_bound if output is None else min(output, self.output_bound))
