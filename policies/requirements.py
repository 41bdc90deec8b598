"""What one request needs of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tier(StrEnum):
    """Quality asked for. A pool listed in a tier may serve that tier and those below."""

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"

    @property
    def rank(self) -> int:
        return _RANK[self]

    @property
    def below(self) -> Tier | None:
        """The next tier down; None for the lowest."""
        return _BELOW[self]


_RANK = {Tier.ECONOMY: 0, Tier.STANDARD: 1, Tier.PREMIUM: 2}
_BELOW = {Tier.ECONOMY: None, Tier.STANDARD: Tier.ECONOMY, Tier.PREMIUM: Tier.STANDARD}


@dataclass(frozen=True, slots=True)
class Requirements:
    """What `decide` must satisfy. Token counts are tokens of the class's models.

    `output_bound` is the client's `max_tokens`, or the class's default where the client gave none (`bounded` False);
    `expected_output_tokens` is what is likely, and sizes time and money. `pinned_pool` is set when the client named a
    pool: nothing else may serve it and it is never lowered. `deadline_s` is what is left until the first token must
    be there. `media_items` counts images or clips for media classes (then token counts are 0).
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

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_bound
