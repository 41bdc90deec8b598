"""The endpoint keeps to the fault matrix, cell by cell: what clients get, who pays, who is asked, what breakers do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pools.failures.classes import AttemptFailed
from pools.failures.classes import FailureClass as F
from pools.live.state import BreakerState
from pricing.clock import ScaledClock
from support.choosing import needs
from support.endpoint import ASK, CHAT, KEYS, Endpoint, Policy, Reply, before_scripts, events, policy
from support.fault_matrix import AT_MOST, CONTINUED, ENDINGS, MATRIX, NEVER, Answer, Breaker, Ending, Moment, Row
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, Script, frame, text_frame

REST = "1"  # what `big` says: valid JSON, too
POOL, OTHER = "mid", "big"  # `big` has the larger context, the larger memory and the higher tier
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}}
ERRORS: Mapping[F, Mapping[str, Any]] = {
    F.CONTEXT_OVERFLOW: {"message": "This model's maximum context length is 8192 tokens.", "code": 400},
    F.OUT_OF_MEMORY: {"message": "CUDA out of memory.", "code": 500},
    F.OVERLOADED: {"message": "The queue is full.", "code": 503},
    F.UNAVAILABLE: {"message": "Internal server error", "code": 500},
    F.MISCONFIGURED: {"message": "The model `x` does not exist.", "code": 404},
    F.CLIENT_ERROR: {"message": "temperature must be non-negative", "code": 400},
}


def whole(content: str) -> bytes:
    """An answer that is not streamed."""
    choice = {"index": 0, "message": {"content": content}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


def error(failure: F) -> dict[str, Any]:
    return {"error": {"type": "x", "param": None, **ERRORS[failure]}}


# -- pools that fail ---------------------------------------------------------------------------------------------------


def plays(answer: bytes, *, stream: bool = False, then: Script | None = None) -> Script:
    """Sends a 200 and these bytes of its body, and then breaks off in that way, or ends as it should."""

    async def script(exchange: Exchange) -> None:
        if stream:
            await exchange.start_stream()
            await exchange.chunk(answer)
        else:
            length = len(answer) + (then is not None)
            await exchange.head("200 OK", "Content-Type: application/json", f"Content-Length: {length}")
            await exchange.send(answer)
        if then is not None:
            await then(exchange)
        elif stream:
            await exchange.end_stream()

    return script


def refuses(failure: F) -> Script:
    """An error status, which every kind of request gets before anything else."""
    body = json.dumps(error(failure)).encode()
    return lambda exchange: exchange.answer(f"{ERRORS[failure]['code']} X", body)


async def resets(exchange: Exchange) -> None:
    exchange.reset()


def failing(row: Row) -> Script:
    """A pool that fails as the row says, whenever it is asked."""
    stream, after, failure = row.answer is Answer.STREAM, row.moment is Moment.AFTER, row.failure
    begun = (ROLE + text_frame("he") if after else ROLE) if stream else whole(REST)[:-9]
    if failure in (F.TIMEOUT, F.CLIENT_GONE):
        return plays(begun, stream=stream, then=Exchange.client_left) if stream or after else Exchange.client_left
    if failure is F.BAD_OUTPUT:
        said = "not JSON" if after else ""
        return plays(ROLE + text_frame(said, "stop") + DONE if stream else whole(said), stream=stream)
    if failure is F.UNAVAILABLE and after:
        return plays(begun, stream=stream, then=resets)
    if failure is F.UNAVAILABLE and stream:
        return plays(begun + ENGINE_DIED + DONE, stream=True)
    if after:
        told = begun + frame(**error(failure)) + DONE if stream else json.dumps(error(failure)).encode()
        return plays(told, stream=stream)
    return refuses(failure)


async def good(exchange: Exchange) -> None:
    if json.loads(exchange.request.body).get("stream"):
        await plays(ROLE + text_frame(REST) + text_frame("", "stop") + DONE, stream=True)(exchange)
    else:
        await exchange.answer("200 OK", whole(REST))


class Dozing:
    """A pool that loses its container, as the router knows, just before each request. A knock wakes it."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None

    async def script(self, exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer("200 OK", b"{}")
            return
        assert self.endpoint is not None
        lost = AttemptFailed(F.UNAVAILABLE, "another request met nobody here", status=503)
        limits = self.endpoint.service.policy.classes["chat"].limits
        self.endpoint.service.live.pool(POOL).failed(lost, needs("chat"), 0, limits)
        await exchange.answer("503 Service Unavailable", b"no container", "text/plain")


# -- the cells ---------------------------------------------------------------------------------------------------------


def files(row: Row, with_another: bool, ending: Ending) -> Policy:
    """The breaker opens with exactly the failures that the cell has; timers are short where they are to ring."""
    limits: dict[str, Any] = {"breaker": {"failures": 99 if row.failure is F.COLD else max(1, ending.tries)}}
    if row.failure is F.TIMEOUT:
        limits |= {"first_token_timeout_s": 5, "stall_timeout_s": 5}
    if row.failure is F.OVERLOADED:
        limits |= {"max_attempts": AT_MOST}
    ladder = {"standard": [POOL], "premium": [OTHER]} if with_another else {"premium": [POOL]}
    return policy(classes={"chat": {"ladder": ladder, "objective": "listed"}}, defaults=limits)


async def ask(endpoint: Endpoint, row: Row) -> Reply:
    schema = row.failure is F.BAD_OUTPUT and row.moment is Moment.AFTER
    more = {"response_format": SCHEMA} if schema else {}
    headers = {"x-sluice-timeout-s": "3"} if row.by_client else {}
    return await endpoint.chat(stream=row.answer is Answer.STREAM, max_tokens=8, headers=headers, **more)


async def leave(endpoint: Endpoint, row: Row) -> None:
    """Ask, and go away once the pool is where the row says."""
    body = {"model": "chat", "messages": ASK, "stream": row.answer is Answer.STREAM}
    headers = {"Authorization": f"Bearer {KEYS['acme']}"}
    asked = asyncio.create_task(endpoint.session.post(endpoint.url + CHAT, json=body, headers=headers))
    if row.answer is Answer.STREAM and row.moment is Moment.AFTER:
        async with await asked as response:
            await response.content.readuntil(b"he")
        return
    while not endpoint.upstream[POOL].received:
        await asyncio.to_thread(lambda: None)
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked


def check_reply(reply: Reply, row: Row, promised: str, ending: Ending) -> None:
    """Status, headers and body are those of the ending."""
    assert (reply.status, reply.complete) == (ending.status, True)
    assert reply.headers.get("x-should-retry") == ending.should_retry
    assert ("retry-after" in reply.headers) is ending.retry_after
    if ending.code == "upstream_refusal":
        assert reply.json == error(row.failure)
        return
    if ending.status != 200:
        found = reply.json["error"]
    elif row.answer is Answer.WHOLE:
        assert reply.json["choices"][0]["message"]["content"] == REST
        return
    else:
        *said, last = events(reply.body)
        text = "".join(choice["delta"].get("content") or "" for event in said for choice in event.get("choices", []))
        assert (last == "[DONE]") is not ending.in_stream
        if promised == CONTINUED:
            assert text == "he" + REST
        if not ending.in_stream:
            return
        assert text.startswith("he")
        found = last["error"]
    assert found["code"] == ending.code
    assert [one["failure"] for one in found["metadata"]["attempts"]] == [row.failure.value] * ending.tries


def check_breaker(endpoint: Endpoint, breaker: Breaker) -> None:
    state = endpoint.service.live.state(POOL)
    found = {
        Breaker.NONE: state.breaker is BreakerState.CLOSED and not state.shapes_open,
        Breaker.SHAPE: state.breaker is BreakerState.CLOSED and bool(state.shapes_open),
        Breaker.COUNTS: state.breaker is BreakerState.OPEN and 2 < (state.breaker_retry_s or 0) <= 15,
        Breaker.PAUSE: state.breaker is not BreakerState.CLOSED and (state.breaker_retry_s or 0) <= 1,
        Breaker.MINUTE: state.breaker is BreakerState.OPEN and 50 < (state.breaker_retry_s or 0) <= 60,
    }
    assert found[breaker], state


CELLS = [
    pytest.param(
        row,
        another,
        promised,
        id=f"{row.failure}{'-by-client' * row.by_client}-{row.answer}-{row.moment}-{'two' if another else 'one'}",
    )
    for row in MATRIX
    for another, promised in ((True, row.with_another), (False, row.alone))
    if promised != NEVER
]


@pytest.mark.parametrize(("row", "another", "promised"), CELLS)
async def test_a_failure_ends_as_promised(tmp_path: Path, row: Row, another: bool, promised: str) -> None:
    """Client, ledger, next candidate and breaker are as the cell says, and the books agree."""
    ending = ENDINGS[promised]
    dozing = Dozing()
    cold = row.failure is F.COLD
    scripts = {POOL: dozing.script if cold else failing(row), **({OTHER: good} if another else {})}
    # Timers of five seconds ring after one, which a busy machine's good pool stays below.
    clock = ScaledClock(5 if row.failure is F.TIMEOUT else 1)
    asleep = (POOL,) if cold else ()
    async with before_scripts(tmp_path, scripts, files(row, another, ending), asleep=asleep, clock=clock) as endpoint:
        dozing.endpoint = endpoint
        await endpoint.wake(*asleep)
        if row.failure is F.CLIENT_GONE:
            await leave(endpoint, row)
        else:
            check_reply(await ask(endpoint, row), row, promised, ending)
        request = await endpoint.request()
        rows = [(one.pool, one.outcome, one.account) for one in endpoint.rows()]
        if not cold:
            check_breaker(endpoint, row.breaker)
    payer = {"tenant": "acme", "house": "__failed__"}[row.pays]
    served = [(OTHER, "answered", "acme")] if ending.next else [(POOL, "answered", payer)] if not ending.tries else []
    assert rows == [(POOL, row.failure.value, payer)] * ending.tries + served
    assert (request.outcome, request.status, request.error_code) == (ending.outcome, ending.status, ending.code)


def test_the_matrix_is_complete() -> None:
    """Every class of failure, kind of answer and moment has one row."""
    whole_matrix = [(failure, answer, moment) for failure in F for answer in Answer for moment in Moment]
    assert [(row.failure, row.answer, row.moment) for row in MATRIX if not row.by_client] == whole_matrix
    by_client = [(row.answer, row.moment) for row in MATRIX if row.by_client]
    assert by_client == [(answer, moment) for answer in Answer for moment in Moment]
