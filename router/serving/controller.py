"""The way of a request, as a list: who, what, decide, hold, try, answer, settle.

`open` turns a parsed body into a `Chain`; `complete` and `stream` run it; `finish` writes its summary. The HTTP layer
above only reads and writes bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from policies.choose.decide import decide
from policies.choose.decision import Decision
from policies.choose.names import Resolved, resolve
from policies.errors import UnknownModel
from policies.policy import Policy, RequestClass
from policies.predict.question import Question
from policies.requirements import Requirements
from pools.failures.classes import AttemptFailed, FailureClass
from pools.failures.classify import garbled
from pools.spec import Feature, ModelKind
from pools.wire.backend import Answer, Backend, UpstreamRequest
from pools.wire.sse import peek
from pricing.clock import US_PER_S, Clock
from pricing.errors import StoreUnavailable
from router.errors import ApiError
from router.inbound.bodies import RouteBody
from router.inbound.callers import Caller
from router.inbound.media import EDITS_PATH, IMAGES_PATH, SYNC_PATH
from router.inbound.prompt_size import PromptSizes
from router.inbound.request import CHAT_PATH, Parsed
from router.inbound.sessions import Sessions, Turn
from router.interrupts import Cause, Interrupted, Interrupts
from router.money.accounting import Attempt
from router.output.answers import with_cost
from router.output.check import checked
from router.output.streaming import DONE, AsItCame, Outgoing, Relay
from router.output.transcript import Transcript
from router.output.whole_as_stream import frames_of, must_be_sayable
from router.serving.attempts import Attempts, stated_cost_limit_nusd
from router.serving.chain import Chain
from router.serving.continuing import Continuing
from router.serving.expectation import Outlook, OutputExpectation
from router.serving.media import check_kind, check_media, media_requirements, medium_of
from router.serving.rates import more_tokens
from router.serving.refusals import stop_error
from router.serving.summary import request_ended, request_row
from router.telemetry.events import Fanout, StoreTrouble

Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Controller:
    """Serves requests. Collaborators are made once by `router.app`."""

    attempts: Attempts
    continuing: Continuing
    sizes: PromptSizes
    expectation: OutputExpectation
    events: Fanout
    clock: Clock
    sessions: Sessions

    # -- beginning -------------------------------------------------------------------------------------------------

    async def open(
        self,
        request_id: str,
        parsed: Parsed,
        caller: Caller,
        policy: Policy,
        interrupts: Interrupts,
        timeout_s: float | None,
        endpoint: str,
        session: str | None = None,
    ) -> Chain:
        """Requirements and deadlines of one request. Raises ApiError `model_not_found` or `permission_denied`."""
        started_us = self.clock.mono_us()
        turn = self.sessions.turn(caller.tenant, session, parsed)
        request_class, requirements, outlook = self.requirements(parsed, caller, policy, turn)
        limits = request_class.limits
        total_us = started_us + round(limits.max_total_s * US_PER_S)
        accounting, scopes = self.attempts.accounting, caller.scopes(request_class.name, endpoint)
        if accounting.is_old(scopes):  # a tier is lowered for what other replicas spent, and no longer than that counts
            await accounting.refresh(scopes)
        return Chain(
            request_id=request_id,
            parsed=parsed,
            caller=caller,
            policy=policy,
            request_class=request_class,
            requirements=await self.sizes.exact_near_limits(parsed, request_class, requirements),
            interrupts=interrupts,
            started_us=started_us,
            wall_us=accounting.now_us(),
            first_byte_deadline_us=started_us + round(limits.first_byte_deadline_s * US_PER_S),
            total_deadline_us=total_us,
            client_deadline_us=None if timeout_s is None else min(total_us, started_us + round(timeout_s * US_PER_S)),
            endpoint=endpoint,
            cost_limit_nusd=stated_cost_limit_nusd(limits),
            turn=turn,
            outlook=outlook,
        )

    def plan(self, asked: Parsed | RouteBody, caller: Caller, policy: Policy, session: str | None = None) -> Decision:
        """What would be decided for a request now, without running it. Raises ApiError as `open` does."""
        turn = None
        if isinstance(asked, Parsed):
            turn = self.sessions.turn(caller.tenant, session, asked)
            request_class, requirements, _ = self.requirements(asked, caller, policy, turn)
            endpoint = asked.path
        else:
            request_class, requirements, endpoint = self._described(asked, caller, policy)
        limit = stated_cost_limit_nusd(request_class.limits)
        cached = turn.cached if turn else None
        gatherer = self.attempts.gatherer
        return decide(gatherer.facts(requirements, request_class, caller, policy, endpoint, limit, cached=cached))

    def _described(self, asked: RouteBody, caller: Caller, policy: Policy) -> tuple[RequestClass, Requirements, str]:
        """What a request of these numbers needs, and where it would be sent."""
        request_class, resolved = self._class_of(asked.model, caller, policy)
        media = asked.media(medium_of(request_class))
        features = frozenset(asked.features)
        if media is not None:
            requirements = media_requirements(request_class, resolved, media, features)
            pictures = EDITS_PATH if Feature.EDITS in features else IMAGES_PATH
            endpoint = pictures if media.kind is ModelKind.IMAGE else SYNC_PATH
        else:
            question = Question(
                caller.tenant, request_class.name, asked.prompt_tokens, asked.max_tokens, features, asked.stream
            )
            requirements, _ = self._requirements(request_class, resolved, policy, question, 1)
            endpoint = CHAT_PATH
        return request_class, replace(requirements, tier=asked.tier or requirements.tier, prompt_exact=True), endpoint

    def requirements(
        self, parsed: Parsed, caller: Caller, policy: Policy, turn: Turn | None
    ) -> tuple[RequestClass, Requirements, Outlook | None]:
        """What a request needs, with its prompt's size estimated from its bytes, and how long its answer may get."""
        request_class, resolved = self._class_of(parsed.model, caller, policy)
        check_kind(request_class, parsed)
        if parsed.media is not None:
            return request_class, media_requirements(request_class, resolved, parsed.media, parsed.features), None
        prompt_tokens, exact = self.sizes.estimate(parsed, request_class)
        question = Question(
            caller.tenant, request_class.name, prompt_tokens, parsed.max_tokens, parsed.features, parsed.stream
        )
        sequences = parsed.choices * parsed.prompts
        requirements, outlook = self._requirements(request_class, resolved, policy, question, sequences)
        requirements = replace(
            requirements,
            prompt_exact=exact,
            session_id=turn.key if turn else None,
            longest_share=parsed.longest_share,
        )
        return request_class, requirements, outlook

    def _class_of(self, model: str, caller: Caller, policy: Policy) -> tuple[RequestClass, Resolved]:
        try:
            resolved = resolve(policy, model)
        except UnknownModel as unknown:
            metadata = {"nearest": list(unknown.nearest)}
            raise ApiError("model_not_found", str(unknown), param="model", metadata=metadata) from None
        if caller.classes is not None and resolved.request_class not in caller.classes:
            allowed = ", ".join(sorted(caller.classes))
            raise ApiError("permission_denied", f"tenant '{caller.tenant}' may use these classes: {allowed}")
        return policy.classes[resolved.request_class], resolved

    def _requirements(
        self, request_class: RequestClass, resolved: Resolved, policy: Policy, question: Question, sequences: int
    ) -> tuple[Requirements, Outlook]:
        bound = question.max_tokens or request_class.limits.output_bound_default
        outlook = self.expectation.outlook(policy.prediction, question, bound)
        running = self.expectation.running(question.tenant, request_class.name)
        requirements = Requirements(
            request_class=request_class.name,
            tier=resolved.tier or request_class.default_tier,
            prompt_tokens=question.prompt_tokens,
            output_bound=bound * sequences,
            expected_output_tokens=outlook.expected.median * sequences,
            deadline_s=request_class.limits.first_byte_deadline_s,
            features=question.features,
            stream=question.stream,
            running_output_tokens=None if running is None else running * sequences,
            bounded=question.max_tokens is not None,
            sequences=sequences,
            pinned_pool=resolved.pinned_pool,
        )
        return requirements, outlook

    # -- not streamed ----------------------------------------------------------------------------------------------

    async def complete(self, chain: Chain) -> bytes:
        """The whole answer, with its cost in it, settled. Raises ApiError, Interrupted."""
        attempt, answer = await self.attempts.run(chain, lambda *given: self._try_complete(chain, *given))
        await self.attempts.answered(chain, attempt)
        clip = answer.content_type.startswith("video/")
        body = answer.body if clip else with_cost(answer.body, chain.charged_nusd)
        self._learn(chain)
        await self.finish(chain, "served", 200, None)
        return body

    async def _try_complete(self, chain: Chain, attempt: Attempt, backend: Backend, request: UpstreamRequest) -> Answer:
        answer = await backend.complete(request)
        if chain.parsed.media is not None:
            check_media(chain.parsed.media, answer)
            chain.made = chain.parsed.media.on(attempt.pool.model.item)
            return answer
        try:
            found = checked(chain.parsed, answer.body)
            self._count_usage(chain, attempt, answer.body)
            must_be_sayable(chain.parsed, answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise garbled("sent an answer that cannot be read") from None
        if found.problem is not None:
            raise AttemptFailed(FailureClass.BAD_OUTPUT, found.problem, status=answer.status, body=answer.body)
        attempt.schema_result = found.schema
        return answer

    # -- streamed --------------------------------------------------------------------------------------------------

    async def stream(self, chain: Chain, start: Callable[[], Awaitable[None]], send: Send) -> None:
        """Relay a stream: `start` sends the headers, `send` a frame. Settled before `[DONE]` goes out.

        Raises ApiError while nothing has been sent; afterwards an error event ends the stream.
        """
        if chain.buffered:
            await self._stream_whole(chain, start, send)
            return
        _, relay = await self.attempts.run(chain, lambda *given: self._try_stream(chain, *given))
        rest: Outgoing | None = relay
        overtime = self._end_overtime(chain)
        started = False
        try:
            with chain.interrupts.armed():
                await start()
                started = True
            while rest is not None:
                rest = await self._relay(chain, rest, send)
        except ApiError as error:
            await self._broke(chain, error, send)
        except Interrupted as stop:
            if chain.attempt is not None:
                chain.note_usage(chain.attempt)
                await self.attempts.interrupted(chain, chain.attempt, stop.cause)
            if not started:
                raise
            await self._stopped(chain, stop.cause, send)
        else:
            if chain.attempt is not None:
                chain.note_usage(chain.attempt)
                await self.attempts.answered(chain, chain.attempt)
            self._learn(chain)
            await self.finish(chain, "served", 200, None)
            await send(DONE)
        finally:
            overtime.cancel()

    async def _relay(self, chain: Chain, rest: Outgoing, send: Send) -> Outgoing | None:
        """Send what one pool says. Returns what the next one says after it broke, None at the end of the answer.

        Raises ApiError where a broken stream cannot go on, and Interrupted.
        """
        try:
            with chain.interrupts.armed():
                async for frame in rest.frames(lambda: self._cost_so_far(chain)):
                    await send(frame)
            return None
        except AttemptFailed as failure:
            return await self.continuing.go_on(chain, failure)
        finally:
            await rest.aclose()

    async def _cost_so_far(self, chain: Chain) -> int:
        """What the tenant pays for all attempts; fixes the cost of the one that runs."""
        running = 0 if chain.attempt is None else await self.attempts.accounting.fix_payment(chain.attempt)
        return chain.charged_nusd + running

    async def _stream_whole(self, chain: Chain, start: Callable[[], Awaitable[None]], send: Send) -> None:
        """The class holds answers with a schema back until they are known to keep to it."""
        body = await self.complete(chain)
        await start()
        for frame in frames_of(chain.parsed, body):
            await send(frame)
        await send(DONE)

    def _end_overtime(self, chain: Chain) -> asyncio.TimerHandle:
        """The pool's time ends at the chain's deadline. A client that has not read its answer a while later is gone:
        it would keep the pool's meter running for as long as it likes.
        """
        left_s = chain.total_left_s(self.clock.mono_us()) + chain.limits.stall_timeout_s
        loop = asyncio.get_running_loop()
        return loop.call_later(left_s / self.clock.speedup, chain.interrupts.interrupt, Cause.CLIENT_GONE)

    async def _try_stream(self, chain: Chain, attempt: Attempt, backend: Backend, request: UpstreamRequest) -> Relay:
        transcript = Transcript(attempt.pool.model.tokenizer) if chain.parsed.one_text else None
        relay = Relay(await backend.stream(request), AsItCame(chain.parsed, attempt, transcript))
        try:
            await relay.first_content()
        except AttemptFailed:
            await relay.aclose()
            raise
        chain.transcript = transcript
        return relay

    async def _broke(self, chain: Chain, why: ApiError, send: Send) -> None:
        """The pool failed after bytes had gone out, and no other went on: the stream ends with an error."""
        reports = [report.as_json() for report in chain.reports]
        broke = chain.reports[-1].failure
        again = "" if broke == FailureClass.CLIENT_ERROR else "; send the request again"
        text = f"the stream broke after it had begun: {broke}; {why.message}{again}"
        error = ApiError("stream_broken", text, metadata={"attempts": reports})
        await self.finish(chain, "broken", 200, error.code)
        await send(error.event())

    async def _stopped(self, chain: Chain, cause: Cause, send: Send) -> None:
        """The stream was ended from outside: nobody listens, or an error event says why."""
        if cause is Cause.CLIENT_GONE:
            await self.finish(chain, "client_gone", 499, "client_closed_request")
            return
        error = stop_error(cause)
        await self.finish(chain, "refused" if cause is Cause.CUT else "broken", 200, error.code)
        await send(error.event())

    def budget_left_nusd(self, chain: Chain) -> int | None:
        """What the tightest cap of a request leaves now; None where there is none."""
        return self.attempts.accounting.room(chain.scopes(chain.pool)).left_nusd

    # -- ending ----------------------------------------------------------------------------------------------------

    def _count_usage(self, chain: Chain, attempt: Attempt, body: bytes) -> None:
        """The tokens of a whole answer, as far as they can be true. Raises AttemptFailed."""
        seen = peek(body)
        attempt.prompt_tokens, attempt.completion_tokens = seen.prompt_tokens, seen.completion_tokens
        attempt.cached_tokens = seen.cached_tokens
        chain.note_usage(attempt)

    def _learn(self, chain: Chain) -> None:
        """A complete answer teaches how long answers are and how many bytes a token has, unless models shared it."""
        if chain.completion_tokens is not None and chain.outlook is not None:
            tokens = chain.completion_tokens // chain.requirements.sequences
            self.expectation.observe(chain.outlook.question, tokens)
        if chain.turn is not None and chain.prompt_tokens is not None and chain.pool is not None:
            self.sessions.answered(chain.turn, chain.pool, chain.prompt_tokens, self.clock.wall_us())
        shared = chain.broken is not None and chain.broken.by_text > 0
        if chain.prompt_tokens is not None and chain.pool is not None and not shared:
            self.sizes.observe(chain.parsed, chain.policy.pools[chain.pool], chain.prompt_tokens)

    async def abandon(self, chain: Chain) -> None:
        """A fault of ours, or the server tore the task down: the money is written all the same."""
        if chain.attempt is not None:
            await self.attempts.interrupted(chain, chain.attempt, Cause.FAULT)
        if not chain.ended:
            await self.finish(chain, "broken", 500, "internal_error")

    async def finish(self, chain: Chain, outcome: str, status: int, error_code: str | None) -> None:
        """Write the request's summary, with its last settlement if one is pending, and tell who listens.

        An answer that is there is not lost because the ledger cannot be written: the settlement follows later.
        """
        chain.ended = True
        row = request_row(chain, outcome, status, error_code, self.clock.mono_us() - chain.started_us)
        pending, chain.pending = chain.pending, None
        if pending is not None:
            pending = replace(pending, more_tokens=more_tokens(chain, outcome))
        try:
            await self.attempts.accounting.end(row, pending)
        except StoreUnavailable as trouble:
            self.events.emit(StoreTrouble("unrecorded", str(trouble)))
        self.events.emit(request_ended(chain, row))
