"""Prices of APIs that bill by the token, and what an answer costs at them.

Such a provider has no containers that we could keep alive: nothing boots, nothing is idle, and its bill grows by what
is charged. Prices are integer nano-dollars per million tokens, which is what providers state them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pricing.money import ceil_nusd, half_even_nusd

TOKENS_PER_PRICE: Final = 1_000_000
"""Prices are stated for so many tokens."""


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """One model's price in one book. `cached_input_nusd` is that of prompt tokens which the provider had in its cache;
    a book that states none prices them as any others.
    """

    model: str
    input_nusd: int
    output_nusd: int
    cached_input_nusd: int
    place: str = ""  # "file:line"
    note: str = ""

    def cost_nusd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> int:
        """What an answer with this usage costs, half to even. Raises ValueError for a negative count.

        `cached_tokens` are among the prompt's; an API that names more of them than the prompt has is not believed.
        """
        return half_even_nusd(self._times_price(prompt_tokens, completion_tokens, cached_tokens), TOKENS_PER_PRICE)

    def expected_nusd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> int:
        """The same for tokens that are expected, rounded up: what sizes a hold must not be too small."""
        return ceil_nusd(self._times_price(prompt_tokens, completion_tokens, cached_tokens), TOKENS_PER_PRICE)

    def _times_price(self, prompt: int, completion: int, cached: int) -> int:
        if prompt < 0 or completion < 0 or cached < 0:
            raise ValueError(f"no usage: {prompt} prompt tokens, {completion} of the answer, {cached} cached")
        cached = min(cached, prompt)
        return (prompt - cached) * self.input_nusd + cached * self.cached_input_nusd + completion * self.output_nusd
