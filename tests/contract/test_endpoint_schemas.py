"""Answers that must keep to a JSON schema, end to end: what moves on, what is counted, what a buffered stream is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.rows import LedgerRow, SchemaResult
from pricing.reports.report import report
from support.endpoint import COMPLETIONS, Endpoint, Policy, before_scripts, before_simulated, events, policy
from support.scrape import value
from support.scripted_server import DONE, ROLE, Exchange, Script, frame, text_frame
from support.simulated import text_of

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
KEEPS, BREAKS = '{"n": 1}', '{"n": "one"}'
USAGE: dict[str, Any] = {"prompt_tokens": 3, "completion_tokens": 2}


def ladder(buffer: bool) -> Policy:
    """Two pools, the second of a higher tier."""
    return policy(classes={"chat": {"ladder": {"standard": ["small"], "premium": ["big"]}, "buffer": buffer}})


def saying(text: str, finish: str = "stop") -> Script:
    """A pool that gives this answer, streamed or not as it is asked."""

    async def script(exchange: Exchange) -> None:
        if json.loads(exchange.request.body).get("stream"):
            await exchange.start_stream()
            usage = frame(choices=[], usage=USAGE)
            for chunk in (ROLE, text_frame(text[:4]), text_frame(text[4:]), text_frame("", finish), usage, DONE):
                await exchange.chunk(chunk)
            await exchange.end_stream()
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            await exchange.answer("200 OK", json.dumps({"id": "a", "choices": [choice], "usage": USAGE}).encode())

    return script


def results(rows: list[LedgerRow]) -> list[tuple[str, str, SchemaResult | None]]:
    return [(row.pool, row.outcome, row.schema_result) for row in rows]


def metric(endpoint: Endpoint, pool: str, result: str) -> float | None:
    return value(endpoint.service.metrics.text(), "sluice_schema_answers_total", pool=pool, result=result)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_breaks_its_schema_moves_to_a_higher_tier(tmp_path: Path, streamed: bool) -> None:
    """Whole or buffered, the client gets the answer that keeps to the schema; both attempts are counted, and paid."""
    pools = {"small": saying(BREAKS), "big": saying(KEEPS)}
    async with before_scripts(tmp_path, pools, ladder(buffer=True)) as endpoint:
        reply = await endpoint.chat(response_format=FORMAT, stream=streamed)
        await endpoint.settled()
        request, rows = await endpoint.request(), endpoint.rows()
        assert (metric(endpoint, "small", "broken"), metric(endpoint, "big", "kept")) == (1, 1)
    text = text_of(events(reply.body)) if streamed else reply.json["choices"][0]["message"]["content"]
    assert (reply.status, text) == (200, KEEPS)
    assert reply.headers["x-sluice-pool"] == "big"
    assert (request.schema_asked, request.stream, request.attempts) == (True, streamed, 2)
    assert results(rows) == [
        ("small", "bad_output", SchemaResult.BROKEN),
        ("big", "answered", SchemaResult.KEPT),
    ]


async def test_a_buffered_stream_is_asked_for_whole_and_told_as_a_stream(tmp_path: Path) -> None:
    """The pool sees no stream and no options of one; the client sees role, content, finish, usage and `[DONE]`."""
    asked: dict[str, Any] = {"response_format": FORMAT, "stream": True, "stream_options": {"include_usage": True}}
    async with before_scripts(tmp_path, {"small": saying(KEEPS)}, ladder(buffer=True)) as endpoint:
        reply = await endpoint.chat(**asked)
        [received] = endpoint.upstream["small"].received
        await endpoint.settled()
        charged = endpoint.charged_nusd()
    sent_up = json.loads(received.body)
    assert sent_up["stream"] is False
    assert "stream_options" not in sent_up
    assert reply.headers["content-type"].startswith("text/event-stream")
    [role, content, finish, usage, done] = events(reply.body)
    assert [one["choices"][0]["delta"] for one in (role, content, finish)] == [
        {"role": "assistant", "content": ""},
        {"content": KEEPS},
        {},
    ]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert round(usage["usage"]["cost"] * 10**9) == charged > 0
    assert done == "[DONE]"


async def test_when_every_tier_breaks_the_schema_the_client_is_told(tmp_path: Path) -> None:
    """A buffered stream has sent nothing yet, so that the error comes with its status."""
    pools = {"small": saying(BREAKS), "big": saying(BREAKS)}
    async with before_scripts(tmp_path, pools, ladder(buffer=True)) as endpoint:
        reply = await endpoint.chat(response_format=FORMAT, stream=True)
    assert (reply.status, reply.code) == (502, "schema_violation")
    assert [one["failure"] for one in reply.json["error"]["metadata"]["attempts"]] == ["bad_output", "bad_output"]


@pytest.mark.parametrize(
    ("text", "finish", "result"),
    [
        (KEEPS, "stop", SchemaResult.KEPT),
        (BREAKS, "stop", SchemaResult.BROKEN),
        ('{"n": ', "length", SchemaResult.CUT),
    ],
)
async def test_a_stream_that_is_not_buffered_is_counted_only(
    tmp_path: Path, text: str, finish: str, result: SchemaResult
) -> None:
    """What has gone out stands; how it kept to the schema is known at the end."""
    async with before_scripts(tmp_path, {"small": saying(text, finish)}, ladder(buffer=False)) as endpoint:
        reply = await endpoint.chat(response_format=FORMAT, stream=True, max_tokens=9)
        await endpoint.settled()
        rows = endpoint.rows()
        assert metric(endpoint, "small", result) == 1
    assert (reply.status, text_of(events(reply.body)), events(reply.body)[-1]) == (200, text, "[DONE]")
    assert results(rows) == [("small", "answered", result)]


async def test_an_answer_cut_at_the_clients_own_bound_is_passed_on(tmp_path: Path) -> None:
    """Half an object is what `max_tokens` asked for: no fallback, and neither kept nor broken."""
    async with before_scripts(tmp_path, {"small": saying('{"n": ', "length")}, ladder(buffer=True)) as endpoint:
        for streamed in (False, True):
            assert (await endpoint.chat(response_format=FORMAT, max_tokens=2, stream=streamed)).status == 200
        await endpoint.settled()
        assert results(endpoint.rows()) == [("small", "answered", SchemaResult.CUT)] * 2


async def test_without_a_schema_nothing_is_buffered_or_counted(tmp_path: Path) -> None:
    """A class that buffers streams its other requests as ever."""
    async with before_scripts(tmp_path, {"small": saying(KEEPS)}, ladder(buffer=True)) as endpoint:
        reply = await endpoint.chat(stream=True)
        [received] = endpoint.upstream["small"].received
        await endpoint.settled()
        assert results(endpoint.rows()) == [("small", "answered", None)]
        assert not (await endpoint.request()).schema_asked
    assert json.loads(received.body)["stream"] is True
    assert len(events(reply.body)) == 5  # role, two texts, finish, [DONE]


async def test_completions_are_buffered_too(tmp_path: Path) -> None:
    """The older endpoint's answer is told in one chunk a choice."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", b'{"choices":[{"index":0,"text":"{\\"n\\":1}","finish_reason":"stop"}]}')

    body = {"model": "chat", "prompt": "?", "stream": True, "response_format": FORMAT}
    async with before_scripts(tmp_path, {"small": script}, ladder(buffer=True)) as endpoint:
        reply = await endpoint.ask("POST", COMPLETIONS, json=body)
    [chunk, done] = events(reply.body)
    assert (chunk["object"], chunk["choices"][0]["text"], done) == ("text_completion", '{"n":1}', "[DONE]")


async def test_the_official_client_streams_a_buffered_answer(tmp_path: Path) -> None:
    """On simulated pools, one of which cuts its JSON in half: the client's stream ends in the parsed object."""
    files = ladder(buffer=True)
    async with before_simulated(tmp_path, files, awake=("small", "big")) as endpoint, endpoint.client() as client:
        await endpoint.fail("small", "bad_json", count=1)
        asked: Any = {"model": "chat", "messages": [{"role": "user", "content": "?"}], "response_format": FORMAT}
        async with client.chat.completions.stream(**asked) as stream:
            answer = await stream.get_final_completion()
        await endpoint.settled()
        found = report(endpoint.ledger, ["pool"], 0, 2**62)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"n"}
    lines = {line.key[0]: line for line in found.lines}
    assert (lines["small"].schema_compliance, lines["big"].schema_compliance) == (0.0, 1.0)
