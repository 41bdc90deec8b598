"""A stream that broke after its first byte goes on at the next pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace

from policies.requirements import shares_tokens
from pools.failures.classes import AttemptFailed
from pools.failures.classify import garbled
from pools.spec import PoolSpec
from pools.wire.backend import Backend, UpstreamRequest
from router.errors import ApiError
from router.inbound.request import COMPLETIONS_PATH
from router.money.accounting import Attempt
from router.output.continuation import Broken, How, asked, by_text, by_tokens, needs_after, unsent_of, ways
from router.output.reshape import Ended, Reshaped, Voice
from router.output.stops import Join
from router.output.streaming import Outgoing, Relay
from router.serving.attempts import Attempts
from router.serving.chain import Chain
from router.telemetry.events import Fanout, StreamContinued

HALF_A_CHARACTER_AT_MOST: Final = 8  # tokens; four bytes are the longest in UTF-8, the rest is for bytes that are none
REPLACEMENT: Final = "\ufffd"  # how half a character reads
TEXT_WITHIN_S: Final = 5.0  # an engine that does not say by then what its token ids read is not asked to go on by them


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
        relay = Relay(stream, Reshaped(voice, attempt, broken, join))
        try:
            await relay.first_content()
        except AttemptFailed:
            await relay.aclose()
            raise
        broken.again = 0
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

        The ids must end with a whole character: behind half of one, vLLM's tokenizer reads the prompt out loud. The
        tokens after it, of which nothing was sent, are generated again. With stop strings text goes out later than its
        tokens, as engines, and this router at a cut, keep back what such a string could still take away. Where chunks
        do not tell, the engine is asked what the ids read.
        """
        continues, pool, transcript = chain.requirements.continues, attempt.pool, broken.transcript
        if continues is None or not shares_tokens(continues, pool):
            return None
        if transcript.ends_whole and not broken.asked.stops:
            broken.keep(transcript.spoken)
            return ""
        unsent = await self._read(broken, pool, backend)
        if unsent is None and not continues.by_text:
            raise garbled("cannot tell the text of its token ids")
        return unsent

    async def _read(self, broken: Broken, pool: PoolSpec, backend: Backend) -> str | None:
        """Ask the engine for the text that was generated and never sent; None where it cannot tell."""
        transcript = broken.transcript
        count = len(transcript.ids) if broken.asked.stops else transcript.spoken
        for kept in range(count, max(0, count - HALF_A_CHARACTER_AT_MOST), -1):
            text = await backend.text_of(pool.served_model_name, transcript.ids[:kept].tolist(), TEXT_WITHIN_S)
            if text is None:
                return None
            if not text.endswith(REPLACEMENT):
                broken.keep(kept)
                return unsent_of(text, transcript.said_in_ids)
        return None


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
