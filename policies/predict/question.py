"""What is known of a request before its answer, as far as it tells how long the answer will be."""

from __future__ import annotations

from math import log2
from typing import Final

import msgspec

from pools.spec import Feature

QUANTILES: Final = (0.5, 0.9)
"""What is predicted: the median sizes holds and times, the 90th percentile shows how far off it can be."""

STEPS_PER_OCTAVE: Final = 3
"""How finely prompts of one template are told from others by their size: 3 and 4 measured alike on four traces, 2 and 6
a little worse."""


class Question(msgspec.Struct, frozen=True, gc=False):
    """One request. `prompt_tokens` may be an estimate; `max_tokens` is the client's own bound of one answer, None where
    it gave none. `features` are those of `pools.spec.Feature` that it asks for.
    """

    tenant: str
    request_class: str
    prompt_tokens: int
    max_tokens: int | None = None
    features: frozenset[str] = frozenset()
    stream: bool = False

    @property
    def asks_schema(self) -> bool:
        return Feature.JSON_SCHEMA in self.features

    @property
    def asks_tools(self) -> bool:
        return Feature.TOOLS in self.features

    def template(self) -> Template:
        """What requests of one program share: who asks, how, and roughly how much prompt it sends."""
        size = int(log2(self.prompt_tokens + 1) * STEPS_PER_OCTAVE)
        return self.tenant, self.request_class, size, self.max_tokens, self.asks_schema, self.asks_tools


Template = tuple[str, str, int, int | None, bool, bool]
