"""Random requests, answers, failures, leaves and ticks against a whole endpoint, and its invariants.

After each step: no cap is exceeded (invariant 1), and clients have one whole answer each, of a status that is known, or
none for those who left. Once all have ended, 2: every hold ended once, and a tenant's rows are what its budgets say it
spent. 3: a pool's rows add up to its container time at its rate. 5: chains ended, and nothing ran twice on one shape
after out-of-memory.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pools.failures.classes import FailureClass
from pools.wire.backend import Answer, Frame
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import LedgerRow, RowKind
from pricing.money import US_PER_HOUR
from pricing.verify.sqlite import verify
from router.interrupts import Cause
from support.endpoint import ASK, policy
from support.ledgers import recent_requests
from support.manual_endpoint import Asked, Call, ManualEndpoint, data_frame, failed
from support.scripted_server import DONE, ROLE, frame, text_frame

POOLS = ("small", "mid", "other", "big")
CAP_NUSD = 4_000_000
FILES = policy(
    caps=[
        {"name": "day", "amount_usd": CAP_NUSD / 10**9, "window": "24h", "scope": "tenant:acme"},
        {"name": "day", "amount_usd": 3 * CAP_NUSD / 10**9, "window": "24h", "scope": "class:chat"},
    ],
    endpoints={pool: {"url": "http://127.0.0.1:9", "always_on": 1} for pool in POOLS},
)
USAGE = {"prompt_tokens": 3, "completion_tokens": 20}
FAILURES = [
    failure for failure in FailureClass if failure not in (FailureClass.CLIENT_GONE, FailureClass.MISCONFIGURED)
]
STATUSES = {200, 400, 429, 500, 502, 503, 504}


Request = tuple[str, str, int, bool, bool]  # tenant, model, max_tokens, streamed, with usage
Move = tuple[int, str, FailureClass, bool]  # which call, what it does, how it fails, whether its answer is empty
requests = st.tuples(
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["chat", "chat:economy", "chat:premium", "small"]),
    st.sampled_from([1, 50, 300]),
    st.booleans(),
    st.booleans(),
)
moves = st.tuples(
    st.integers(0, 20),
    st.sampled_from(["answers", "answers", "speaks", "speaks", "fails", "fails", "has a bug"]),
    st.sampled_from(FAILURES),
    st.booleans(),
)


def move(call: Call, what: str, failure: FailureClass, empty: bool) -> None:
    """What a pool does about one request."""
    if what == "answers":
        answers(call, "" if empty else "hello", None if empty else USAGE)
    elif what == "fails":
        body = b'{"error": {"message": "no", "code": 400}}' if failure is FailureClass.CLIENT_ERROR else None
        call.play(failed(failure, status=400 if body else None, body=body, engine_died=empty))
    elif what == "has a bug":
        call.play(ZeroDivisionError())
    elif call.request.stream:
        call.play(*says("word", call))


def answers(call: Call, text: str, usage: object) -> None:
    """The pool ends its answer well, whole or streamed; a text that is empty is no answer."""
    if not call.request.stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": usage}).encode()
        call.play(Answer(200, "application/json", body))
        return
    call.play(*says("", call), data_frame(text_frame(text, "stop")))
    if usage:
        call.play(data_frame(frame(choices=[], usage=usage)))
    call.play(data_frame(DONE), None)


def says(text: str, call: Call) -> list[Frame]:
    """A chunk of a stream, with usage as routing asks for it; before the first one, the role."""
    choices = json.loads(text_frame(text)[6:])["choices"]
    return [*([] if call.begun else [data_frame(ROLE)]), data_frame(frame(choices=choices, usage=USAGE))]


class EndpointMachine(RuleBasedStateMachine):
    """Every rule ends when nothing can run any more."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.left: list[Asked] = []
        self.versions = 0

    @initialize()
    def begin(self) -> None:
        self.endpoint = self.runner.run(self.made())
        self.began_us = self.endpoint.clock.wall_us()

    async def made(self) -> ManualEndpoint:
        return ManualEndpoint(Path(self.folder.name), FILES)

    # What happens.

    @rule(asked=st.lists(requests, min_size=1, max_size=4))
    def ask(self, asked: list[Request]) -> None:
        self.runs(self.asks(asked))

    async def asks(self, asked: list[Request]) -> None:
        for tenant, model, max_tokens, streamed, with_usage in asked:
            more = {"stream": True, "stream_options": {"include_usage": with_usage}} if streamed else {}
            self.endpoint.ask(tenant, model=model, messages=ASK, max_tokens=max_tokens, **more)

    @precondition(lambda self: self.endpoint.open_calls())
    @rule(drawn=st.lists(moves, min_size=1, max_size=4))
    def pools_move(self, drawn: list[Move]) -> None:
        """One after the other; what the first one set off may give the next one something to do."""
        for place, what, failure, empty in drawn:
            calls = self.endpoint.open_calls()
            if calls:
                move(calls[place % len(calls)], what, failure, empty)
                self.runs()

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.running()))
        self.left.append(asked)
        asked.gone.set()
        self.runs()

    @rule(seconds=st.integers(0, 12), ticks=st.integers(1, 3))
    def time_passes(self, seconds: int, ticks: int) -> None:
        """Not longer than a lease without a tick: what then happens is tried with the store alone."""
        for _ in range(ticks):
            self.endpoint.clock.advance(seconds / ticks)
            self.runs(self.endpoint.service.accounting.tick())

    @rule()
    def the_house_is_written(self) -> None:
        self.runs(self.endpoint.service.meters.post_house())

    @rule()
    def the_files_change(self) -> None:
        """A new version of the same policy is put in force, which changes nothing about money."""
        self.versions += 1
        self.runner.run(self.reloads())

    async def reloads(self) -> None:
        self.endpoint.reload({**FILES, "description": f"version {self.versions}"})

    # What must hold.

    def runs(self, step: object = None) -> None:
        """Let a step and all that it sets off run to their end, then look."""

        async def run() -> None:
            if asyncio.iscoroutine(step):
                await step
            await self.endpoint.quiet()

        self.runner.run(run())
        self.caps_hold()
        self.answers_are_whole()

    def caps_hold(self) -> None:
        statuses = self.runner.run(self.endpoint.service.store.statuses())
        for status in statuses:
            assert status.amount_nusd is not None
            assert status.spent_nusd + status.held_nusd <= status.amount_nusd

    def answers_are_whole(self) -> None:
        for asked in self.endpoint.asked:
            if not asked.task.done() or asked in self.left:
                continue
            assert asked.complete or asked.task.exception() is None
            assert asked.status in STATUSES
            if asked.status == 200 and asked.streamed:
                ends = [asked.body.endswith(DONE), b'"error"' in asked.body.split(b"\n\n")[-2], not asked.complete]
                assert ends.count(True) == 1

    def teardown(self) -> None:
        """Those who still run leave or are stopped; then everything must be settled and add up."""
        if not hasattr(self, "endpoint"):
            return
        try:
            self.runs(self.ends())
            self.all_is_settled()
        finally:
            self.runner.run(self.endpoint.aclose())
            self.runner.close()
        self.books_add_up()
        self.folder.cleanup()

    async def ends(self) -> None:
        for place, asked in enumerate(self.running()):
            if place % 2:
                self.left.append(asked)
                asked.gone.set()
        await self.endpoint.quiet()
        self.endpoint.service.ongoing.interrupt_all(Cause.SHUTDOWN)

    def all_is_settled(self) -> None:
        assert self.running() == []
        assert self.endpoint.service.live.in_flight(POOLS) == 0
        assert len(self.endpoint.service.live.lines) == 0
        assert all(call.over for call in self.endpoint.calls)

    def books_add_up(self) -> None:
        now_us = self.endpoint.clock.wall_us()
        ledger = self.endpoint.service.settings.ledger
        books = verify(ledger, now_us)
        assert books.problems == ()
        assert (books.open_holds, books.requests) == (0, len(self.endpoint.asked))
        rows = recent_rows(ledger, 100_000)
        for pool in POOLS:
            rate = self.endpoint.service.policy.rates[pool].nusd_per_h
            alive_nusd = (now_us - self.began_us) * rate / US_PER_HOUR
            assert sum(row.amount_nusd for row in rows if row.pool == pool) == pytest.approx(alive_nusd, abs=2)
        self.chains_ended(rows)

    def chains_ended(self, rows: list[LedgerRow]) -> None:
        limits = self.endpoint.service.policy.classes["chat"].limits
        requests = recent_requests(self.endpoint.service.settings.ledger, 100_000)
        tries: dict[str, list[LedgerRow]] = {request.request_id: [] for request in requests}
        for row in reversed(rows):
            if row.request_id is not None and row.kind is RowKind.ATTEMPT:
                tries[row.request_id].append(row)
        for request in requests:
            mine = tries[request.request_id]
            assert len(mine) == request.attempts <= limits.max_attempts
            assert max(Counter(row.pool for row in mine).values(), default=0) <= 2
            for place, row in enumerate(mine):
                if row.outcome == FailureClass.OUT_OF_MEMORY:
                    assert row.pool not in {later.pool for later in mine[place + 1 :]}

    # Choosing.

    def running(self) -> list[Asked]:
        return [asked for asked in self.endpoint.asked if not asked.task.done() and asked not in self.left]


TestEndpoint = EndpointMachine.TestCase
TestEndpoint.settings = settings(max_examples=25, stateful_step_count=25)
