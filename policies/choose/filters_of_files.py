"""What a pool can never do for a request: filters that judge it by its row, its ladder and what the client asked for.

No wait changes any of these. A feature that an engine was found to lack counts as one that it was not started with.
"""

from __future__ import annotations

from policies.choose.ask import Ask
from policies.choose.decision import Numbers, Reason
from policies.policy import Rung
from policies.requirements import shares_tokens
from pools.live.state import PoolState
from pools.media import activation_gib


class NotPinned:
    """The client named a pool, and this is another.

    Example: `model: qwen3-vl-8b-fp8-l4` refuses every pool but `qwen3-vl-8b-fp8-l4`.
    """

    reason = Reason.NOT_PINNED

    def applies(self, ask: Ask) -> bool:
        return ask.requirements.pinned_pool is not None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        pinned = ask.requirements.pinned_pool
        return None if rung.pool.name == pinned else {"pinned_pool": str(pinned)}


class BelowTier:
    """The pool is listed below the tier asked for. A pinned pool serves whatever its tier.

    Example: `tier: standard` refuses the pools under `economy:`.
    """

    reason = Reason.TIER

    def applies(self, ask: Ask) -> bool:
        return ask.tier_rank > 0 and ask.requirements.pinned_pool is None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        if rung.tier.rank >= ask.tier_rank:
            return None
        return {"pool_tier": rung.tier.value, "needed_tier": ask.tier.value}


class LacksFeature:
    """The request needs a feature that the pool was not started with, or was found to lack.

    Example: a request with images, and a pool whose row has `features: [tools]`.
    """

    reason = Reason.FEATURE

    def applies(self, ask: Ask) -> bool:
        return bool(ask.requirements.features)

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        missing = (ask.requirements.features - rung.pool.features) | (ask.requirements.features & state.features_off)
        return {"missing": ", ".join(sorted(missing))} if missing else None


class ContextTooShort:
    """Prompt + output bound is longer than the engine was started for.

    Example: 12,000 prompt tokens + 5,000 of output against `max_model_len: 16384`. Media models have no context.
    """

    reason = Reason.CONTEXT

    def applies(self, ask: Ask) -> bool:
        return ask.total_tokens > 0

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        longest = rung.pool.max_model_len
        if ask.context_tokens <= longest or not longest:
            return None
        return {"needed_tokens": ask.context_tokens, "max_model_len": longest}


class OtherTokenizer:
    """A stream broke that can go on by token ids only, and the pool's model has other tokens; or from its text, which
    an API that is billed by the token would answer instead of going on with.

    Example: `model: chat`, a body with `continue_final_message`, a stream that broke on a Qwen3 pool, and a Qwen2.5
    pool.
    """

    reason = Reason.TOKENIZER

    def applies(self, ask: Ask) -> bool:
        return ask.requirements.continues is not None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        continues, pool = ask.requirements.continues, rung.pool
        if continues is None or shares_tokens(continues, pool) or (continues.by_text and pool.terms is None):
            return None
        numbers: Numbers = {"tokenizer": pool.model.tokenizer}
        return numbers if continues.by_text else {**numbers, "needed_tokenizer": str(continues.tokenizer)}


class TooLarge:
    """What a picture or clip takes while it is made, beside the weights, is more than the GPU has.

    Example: four pictures of 1024 × 1024 at once from FLUX.1 on an A100 of 40 GB: 31.5 GiB of weights, 1.5 of overhead
    and 4 × 2.0 are more than 36.3 GiB.
    """

    reason = Reason.TOO_LARGE

    def applies(self, ask: Ask) -> bool:
        return ask.requirements.media is not None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        media = ask.requirements.media
        if media is None:
            return None
        fit = rung.fit
        needed = fit.weights_gib + fit.overhead_gib + activation_gib(rung.pool, media)
        if needed <= fit.budget_gib:
            return None
        return {"needed_gib": round(needed, 2), "budget_gib": round(fit.budget_gib, 2)}
