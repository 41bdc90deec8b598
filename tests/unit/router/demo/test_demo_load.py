"""The demo's clients, against a server that answers as told and against none."""

from __future__ import annotations

import json

from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pricing.clock import ScaledClock
from router.demo.bodies import Bodies
from router.demo.load import Load, Outcome, Target
from router.demo.plan import PlannedRequest
from router.demo.verdict import Verdict

ANSWER = {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def planned(number: int, stream: bool, at_s: float = 0.0) -> PlannedRequest:
    return PlannedRequest(number, at_s, "acme", "chat", "economy", 50, 20, stream, None)


async def answer(request: web.Request) -> web.StreamResponse:
    """Whole answers are served; a stream is served when it is asked with a bound, else it is cut after a chunk."""
    body = await request.json()
    assert request.headers["authorization"] == "Bearer sk-acme"
    assert body["model"] == "chat:economy"
    headers = {"x-sluice-pool": "a10", "x-sluice-gpu": "A10", "x-sluice-tier": "standard", "x-sluice-attempts": "2"}
    if not body.get("stream"):
        return web.json_response(ANSWER, headers=headers)
    response = web.StreamResponse(headers={**headers, "content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    await response.write(CHUNK)
    if body["sim_output_tokens"] == 20:
        await response.write(LAST)
    elif request.transport is not None:
        request.transport.abort()
    return response


async def played(url: str, *plan: PlannedRequest) -> list[Outcome]:
    sent: list[PlannedRequest] = []
    ended: list[Outcome] = []
    load = Load(Target(url, {"acme": "sk-acme"}), Bodies(0), ScaledClock(100.0), sent.append, ended.append)
    outcomes = await load.play(plan)
    assert sent == list(plan)
    assert sorted(ended, key=lambda one: one.planned.number) == outcomes
    return outcomes


async def test_outcomes_are_judged_from_what_came_back() -> None:
    """Whole and streamed answers are served, a cut stream is broken; headers say who answered."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    cut = PlannedRequest(3, 0.0, "acme", "chat", "economy", 50, 21, True, None)
    async with TestServer(app) as server:
        outcomes = await played(f"http://127.0.0.1:{server.port}", planned(1, False), planned(2, True), cut)
    assert [one.judged.verdict for one in outcomes] == [Verdict.SERVED, Verdict.SERVED, Verdict.BROKEN]
    assert {(one.pool, one.gpu, one.tier, one.attempts) for one in outcomes} == {("a10", "A10", "standard", 2)}
    assert all(one.first_byte_s is not None and one.first_byte_s <= one.total_s for one in outcomes)


async def test_a_request_that_finds_nobody_is_lost() -> None:
    """No connection is no answer, and says why."""
    [outcome] = await played(f"http://127.0.0.1:{unused_port()}", planned(1, True))
    assert outcome.judged.verdict is Verdict.LOST
    assert "ClientConnectorError" in outcome.judged.why
    assert (outcome.status, outcome.pool, outcome.first_byte_s) == (None, "", None)


def test_bodies_are_what_openai_clients_send() -> None:
    """A stream asks for its usage; a bound is sent where there is one."""
    bodies = Bodies(0)
    streamed = json.loads(bodies.body(planned(1, True)))
    assert streamed["stream_options"] == {"include_usage": True}
    assert "max_tokens" not in streamed
    bounded = json.loads(bodies.body(PlannedRequest(1, 0.0, "acme", "chat", "economy", 50, 20, False, 256)))
    assert bounded["max_tokens"] == 256
    assert "stream" not in bounded
