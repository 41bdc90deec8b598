"""What one request needs of a pool."""

from __future__ import annotations

from enum import StrEnum
from math import ceil

import msgspec


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


class Requirements(msgspec.Struct, frozen=True):
    """What `decide` must satisfy. Token counts are tokens of the class's models.

    `output_bound` is the client's `max_tokens`, or the class's default where the client gave none (`bounded` False);
    `expected_output_tokens` is what is likely, and sizes time and money. `pinned_pool` is set when the client named a
    pool: nothing else may serve it and it is never lowered. `deadline_s` is what is left until the first token must
    be there. `media_items` counts images or clips for media classes (then token counts are 0).

    A request may be for several `sequences`, `n` answers to each of its prompts. Prompt and output are those of all
    together, `longest_share` is the part of the prompt's tokens that its longest prompt has.
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
    sequences: int = 1
    longest_share: float = 1.0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_bound

    @property
    def context_tokens(self) -> int:
        """Of the longest sequence, prompt and output bound: what a pool's `max_model_len` must hold."""
        if self.sequences == 1:
            return self.prompt_tokens + self.output_bound
        return ceil(self.prompt_tokens * self.longest_share) + self.output_bound // self.sequences
