"""How long a prompt is: estimated from its bytes, counted by an engine where the estimate is too near a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from policies.policy import RequestClass, Rung
from policies.requirements import Requirements
from pools.live.all_pools import LivePools
from pools.spec import PoolSpec
from pools.wire.backend import Backend
from pools.wire.splice import replace_fields
from pools.wire.tokens import TokenEstimate, TokenRatios
from router.inbound.request import Parsed

COUNT_WITHIN_S: Final = 1.0  # an engine that does not count by then is not waited for; the estimate stands


class PromptSizes:
    """Estimates with ratios learnt from answers; exact counts from pools that are awake, never from others."""

    def __init__(self, backends: Mapping[str, Backend], live: LivePools) -> None:
        self._backends = backends
        self._live = live
        self._ratios = TokenRatios()

    def estimate(self, parsed: Parsed, request_class: RequestClass) -> tuple[int, bool]:
        """Prompt tokens, and whether they are exact. Of a class with several tokenizers, the largest estimate."""
        if parsed.prompt_token_count is not None:
            return parsed.prompt_token_count, True
        return max(self._ratios.estimate(model, parsed.prompt).tokens for model in request_class.models), False

    async def exact_near_limits(self, parsed: Parsed, request_class: RequestClass, needs: Requirements) -> Requirements:
        """The same requirements, with the prompt counted where its range lies across some pool's context.

        Several prompts stay estimated: an engine counts one at a time.
        """
        if needs.prompt_exact or parsed.prompts > 1:
            return needs
        bound = needs.output_bound // needs.sequences
        found = {model.id: self._ratios.estimate(model, parsed.prompt) for model in request_class.models}
        for rung in request_class.ladder:
            if rung.pool.terms is not None:
                continue  # an API that is billed by the token has no such page
            if _straddles(rung, found[rung.pool.model.id], bound) and not self._live.state(rung.pool.name).cold:
                # An engine counts for no model but its own, and answers 404 to a class's name.
                own = replace_fields(parsed.body, {"model": msgspec.json.encode(rung.pool.served_model_name)})
                tokens = await self._backends[rung.pool.name].count_tokens(own, COUNT_WITHIN_S)
                if tokens is not None:
                    return replace(needs, prompt_tokens=tokens, prompt_exact=True)
        return needs

    def observe(self, parsed: Parsed, pool: PoolSpec, prompt_tokens: int) -> None:
        """Learn from the usage of an answer."""
        if parsed.prompt_token_count is None:
            self._ratios.observe(pool.model, parsed.prompt, prompt_tokens)


def _straddles(rung: Rung, prompt: TokenEstimate, output_bound: int) -> bool:
    """The pool's context lies between what the request needs at the least and at the most."""
    return prompt.low + output_bound <= rung.pool.max_model_len < prompt.high + output_bound
