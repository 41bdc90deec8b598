"""Upstreams that send anything at all: each request ends as a good answer or a well-formed error, and is settled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.backends import GOOD
from support.endpoint import Endpoint, Policy, Reply, before_scripts, events, policy
from support.hostile_bytes import LONG_HEAD, PLAYS, End, Play, redirect
from support.scripted_server import DONE, ROLE, Exchange, text_frame

EXAMPLES = 100
# Each kind of request is relayed in another way: looked into, held against a schema, only passed through.
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"stream_options": {"include_usage": True}},
    {"n": 2},
    {"stop": ["lo"]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string"}}}},
)


def files() -> Policy:
    """`mid` is hostile, `other` is well. Timers ring soon; what opens breakers is forgotten at once."""
    limits = {
        "first_token_timeout_s": 0.4,
        "stall_timeout_s": 0.4,
        "max_total_s": 2,
        "first_byte_deadline_s": 2,
        "shape_cooldown_s": 0.001,
        "breaker": {"failures": 1_000_000},
        "retry_budget": 1.0,
    }
    ladder = {"premium": ["mid", "other"]}
    return policy(classes={"chat": {"ladder": ladder, "objective": "listed"}}, defaults=limits)


class Hostile:
    """A pool that plays what it is told, whatever it is asked."""

    def __init__(self) -> None:
        self.play = Play((), End.CLOSE)

    async def script(self, exchange: Exchange) -> None:
        with contextlib.suppress(OSError):  # the other side left first
            await self.act(exchange, self.play)

    async def act(self, exchange: Exchange, play: Play) -> None:
        for piece in play.pieces:
            await exchange.send(piece)
            await asyncio.sleep(0)
        match play.end:
            case End.CLOSE:
                exchange.writer.close()
            case End.RESET:
                exchange.reset()
            case End.HALF_CLOSE:
                exchange.writer.write_eof()
                await exchange.client_left()
            case End.HANG:
                await exchange.client_left()
            case End.NEVER:
                while True:
                    await exchange.send(play.pieces[-1])
                    await asyncio.sleep(0.001)
            case End.KEEP:
                pass


async def good(exchange: Exchange) -> None:
    if not json.loads(exchange.request.body).get("stream"):
        await exchange.answer("200 OK", GOOD)
        return
    await exchange.start_stream()
    await exchange.chunk(ROLE + text_frame("hi") + text_frame("", "stop") + DONE)
    await exchange.end_stream()


class Faults(logging.Handler):
    """Keeps what was logged with a trace, which only faults of ours are."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(logging.Formatter().format(record))


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Of every logger, asyncio's too."""
    handler = Faults()
    loggers = [logging.getLogger(), logging.getLogger("sluice")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


# What the fuzzed test finds in passing, by name: (is it asked for a stream, what comes, the class it must end in).
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
NAMED: dict[str, tuple[bool, Play, str]] = {
    "HTML with a 200": (
        False,
        Play((b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",), End.KEEP),
        "unavailable",
    ),
    "a frame larger than any": (True, Play((EVENTS + b"data: ", *[b"x" * 2**20] * 9), End.HANG), "unavailable"),
    "bytes that are no UTF-8": (True, Play((EVENTS, b"data: \xff\xfe\n\n"), End.HANG), "unavailable"),
    "a length too long": (False, Play((JSON + b"Content-Length: 999\r\n\r\n" + GOOD,), End.CLOSE), "unavailable"),
    "a length too short": (False, Play((JSON + b"Content-Length: 9\r\n\r\n" + GOOD,), End.CLOSE), "unavailable"),
    "redirects in a circle": (False, Play((redirect(303, "/v1/chat/completions"),), End.KEEP), "misconfigured"),
    "a redirect elsewhere": (False, Play((redirect(303, "http://other.example/"),), End.KEEP), "misconfigured"),
    "a lasting redirect": (True, Play((redirect(308, "/v2"),), End.KEEP), "misconfigured"),
    "garbage": (False, Play((b"\x16\x03\x01\x02\x00\x01\x00",), End.CLOSE), "unavailable"),
    "headers that never end": (False, Play((b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n" * 100), End.NEVER), "unavailable"),
    "a header larger than any": (True, Play((LONG_HEAD,), End.HANG), "unavailable"),
    "a body that never ends": (False, Play((JSON + b"\r\n", b" " * 4_000), End.NEVER), "timeout"),
    "comments that never end": (True, Play((EVENTS, b": still here\n\n"), End.NEVER), "timeout"),
    "half closed, and silent": (True, Play((EVENTS + ROLE,), End.HALF_CLOSE), "unavailable"),
    "silence": (True, Play((), End.HANG), "timeout"),
    "empty frames that never end": (True, Play((EVENTS + ROLE, b'data: {"choices":[]}\n\n'), End.NEVER), "timeout"),
    "a text that is no UTF-8": (
        True,
        Play((EVENTS + ROLE, text_frame("h~").replace(b"~", b"\xff")), End.HANG),
        "unavailable",
    ),
    "a field that is no UTF-8": (
        False,
        Play((JSON + b"Content-Length: %d\r\n\r\n" % (len(GOOD) + 8), GOOD[:-1] + b',"x":"\xff"}'), End.KEEP),
        "unavailable",
    ),
}


@pytest.mark.parametrize("name", NAMED)
async def test_bad_input_ends_in_its_class_and_another_pool_serves(tmp_path: Path, name: str) -> None:
    """The client gets a good answer from the next pool; the ledger has the class of what came first."""
    streamed, hostile = NAMED[name][0], Hostile()
    hostile.play = NAMED[name][1]
    async with before_scripts(tmp_path, {"mid": hostile.script, "other": good}, files()) as endpoint:
        reply = await endpoint.chat(stream=streamed, max_tokens=8)
        await endpoint.request()
        rows = [(row.pool, row.outcome) for row in endpoint.rows()]
    assert (reply.status, b"hi" in reply.body) == (200, True)
    assert rows == [("mid", NAMED[name][2]), ("other", "answered")]


def check_error(error: Any) -> None:
    """An OpenAI error object; ours, or an engine's own words about the request, which need no more than a message."""
    assert isinstance(error["message"], str)
    assert error.get("code") != "internal_error"


def check_stream(reply: Reply) -> None:
    """Chunks of JSON, and in the end `[DONE]` or one error."""
    *said, last = events(reply.body)
    assert all(isinstance(event, dict) and not event.get("error") for event in said)
    if last != "[DONE]":
        check_error(last["error"])


def check(reply: Reply, streamed: bool) -> None:
    assert reply.complete
    if reply.status != 200:
        assert 400 <= reply.status < 600
        check_error(reply.json.get("error", reply.json))  # up to vLLM 0.10.0 it is not nested
    elif streamed:
        check_stream(reply)
    else:
        assert reply.json["choices"]
        assert not reply.json.get("error")


async def ask(endpoint: Endpoint, hostile: Hostile, play: Play, model: str, body: dict[str, Any]) -> None:
    """One request, checked, and everything of it settled."""
    hostile.play = play
    pool = endpoint.service.live.pool("mid")
    pool.configure(pool.settings)  # as after a reload: nothing is held against the pool
    check(await endpoint.chat(model=model, max_tokens=8, **body), body["stream"])
    await endpoint.settled()
    assert endpoint.service.live.in_flight(["mid", "other"]) == 0


def test_whatever_an_upstream_sends_the_client_gets_an_answer_or_an_error(tmp_path: Path, faults: Faults) -> None:
    """Any bytes, cut anywhere, ended anyhow, alone or with another pool: no exception, no open hold, no fault."""
    hostile = Hostile()

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(PLAYS, st.booleans(), st.sampled_from(("mid", "chat")), st.sampled_from(KINDS))
    def attack(play: Play, streamed: bool, model: str, kind: dict[str, Any]) -> None:
        runner.run(ask(endpoint, hostile, play, model, {**kind, "stream": streamed}))

    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        scripts = {"mid": hostile.script, "other": good}
        endpoint = runner.run(stack.enter_async_context(before_scripts(tmp_path, scripts, files())))
        try:
            attack()
            outcomes = {row.outcome for row in endpoint.rows()}
        finally:
            runner.run(stack.aclose())  # the books are looked at
    assert faults.found == []
    assert "fault" not in outcomes
