"""A stream that broke after its first byte goes on at the next pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace

from policies.requirements import shares_tokens
from pools.backend import Backend, UpstreamRequest
from pools.classify import garbled
from pools.failures import AttemptFailed
from router.accounting import Attempt
from router.attempts import Attempts
from router.chain import Chain
from router.continuation import Broken, How, asked, by_text, by_tokens, needs_after, unsent_of, ways
from router.errors import ApiError
from router.events import Fanout, StreamContinued
from router.inbound import COMPLETIONS_PATH
from router.reshape import Ended, Reshaped, Voice
from router.stops import Join
from router.streaming import Outgoing, Relay

TEXT_WITHIN_S: Final = 2.0  # an engine that does not say by then what its token ids read is not asked to go on by them


@dataclass(frozen=True, slots=True)
class Continuing:
    """Moves broken streams to other pools, through the same loop that moves requests before their first byte."""

    attempts: Attempts
    events: Fanout

    async def go_on(self, chain: Chain, failure: AttemptFailed) -> Outgoing:
        """The rest of the answer, from the next pool. The attempt that broke is settled in any case.

        Raises ApiError where the answer cannot go on, and Interrupted.
        """
        attempt = chain.attempt
        assert attempt is not None, "only a running attempt can break"
        chain.note_usage(attempt)
        await self.attempts.failed(chain, attempt, failure)
        broken = chain.broken or _first_break(chain)
        continues = ways(broken, attempt.completion_tokens) if broken is not None else None
        if broken is None or continues is None:
            raise ApiError("stream_broken", "an answer of this kind cannot go on at another pool")
        chain.broken = broken
        broken.completion_tokens = chain.completion_tokens or len(broken.transcript.ids)
        if broken.left == 0:
            return _cut_at_its_bound(broken)
        chain.requirements = needs_after(broken, continues)
        _, relay = await self.attempts.run(chain, partial(self._try, chain, broken))
        return relay

    async def _try(
        self, chain: Chain, broken: Broken, attempt: Attempt, backend: Backend, request: UpstreamRequest
    ) -> Relay:
        """One pool's try at the rest: exactly where it can, else from the text."""
        pool, transcript, wanted = attempt.pool, broken.transcript, broken.asked
        unsent = await self._unsent(chain, broken, attempt, backend)
        if unsent is not None:
            how, path, body = How.TOKENS, COMPLETIONS_PATH, by_tokens(broken, pool)
        else:
            how, path, body = How.TEXT, chain.parsed.path, by_text(broken, pool)
        stream = await backend.stream(replace(request, path=path, body=body))
        join = Join(broken.stops, transcript.said or "", unsent or "", included=wanted.stops_included)
        voice = Voice(broken, inexact=how is How.TEXT or broken.by_text > 0)
        relay = Relay(stream, Reshaped(voice, attempt, transcript, join))
        try:
            await relay.first_content()
        except AttemptFailed:
            await relay.aclose()
            raise
        if how is How.TOKENS:
            transcript.go_on()
        else:
            transcript.begin_anew(pool.model.tokenizer)
            broken.by_text += 1
        broken.times += 1
        self.events.emit(StreamContinued(chain.request_id, chain.request_class.name, pool.name, how))
        return relay

    async def _unsent(self, chain: Chain, broken: Broken, attempt: Attempt, backend: Backend) -> str | None:
        """Text that was generated and never sent, where this pool can go on by token ids; None where it cannot.

        With stop strings text goes out later than its tokens, as engines, and this router at a cut, keep back what such
        a string could still take away. Only a tokenizer knows what is between the two.
        """
        continues, pool = chain.requirements.continues, attempt.pool
        if continues is None or not shares_tokens(continues, pool):
            return None
        if not broken.asked.stops:
            return ""
        transcript = broken.transcript
        whole = await backend.text_of(pool.served_model_name, transcript.ids.tolist(), TEXT_WITHIN_S)
        unsent = None if whole is None else unsent_of(whole, transcript.said_in_ids)
        if unsent is None and not continues.by_text:
            raise garbled("cannot tell the text of its token ids")
        return unsent


def _first_break(chain: Chain) -> Broken | None:
    wanted = asked(chain.parsed)
    if wanted is None or chain.transcript is None:
        return None
    return Broken(wanted, chain.transcript, chain.requirements, chain.prompt_tokens)


def _cut_at_its_bound(broken: Broken) -> Outgoing:
    """The stream broke between the last token that it may have and its finish: nothing is left to generate."""
    if broken.asked.stops:
        raise ApiError("stream_broken", "the last of its text was not sent")
    return Ended(Voice(broken, inexact=broken.by_text > 0))
