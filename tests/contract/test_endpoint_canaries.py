"""No prompt, completion, key or secret gets out where people other than the caller can read.

Canaries go through whole endpoints, well and ill; then logs, metrics, error bodies of others, and the ledger's files
are searched for every ten characters of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.telemetry.log import JsonLines
from support.canaries import Canaries
from support.endpoint import CHAT, Endpoint, Policy, before_scripts, policy
from support.scripted_server import DONE, ROLE, Exchange, frame, text_frame

PLANTED = Canaries.plant(7)
SECRET = "POOL_SECRET"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Everything that is logged at any level, as lines in a file."""
    path = tmp_path / "log.jsonl"
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield path
    root.removeHandler(handler)
    root.setLevel(before)
    handler.close()


def files() -> Policy:
    """A tenant whose key is a canary; pools whose key and header come from the environment."""
    text = policy(defaults={"breaker": {"failures": 99}})
    text["classes"]["chat"]["objective"] = "listed"
    text["tenants"]["acme"]["keys"] = [
        {"id": "acme-key", "sha256": hashlib.sha256(PLANTED.api_key.encode()).hexdigest()}
    ]
    return text


async def well(exchange: Exchange) -> None:
    """Answers with the canary, streamed or not, word by word."""
    if not json.loads(exchange.request.body).get("stream"):
        choice = {"index": 0, "message": {"content": PLANTED.completion}, "finish_reason": "stop"}
        await exchange.answer("200 OK", json.dumps({"choices": [choice]}).encode())
        return
    await exchange.start_stream()
    for word in PLANTED.completion.split():
        await exchange.chunk(text_frame(word))
    await exchange.chunk(text_frame("", "stop") + DONE)
    await exchange.end_stream()


async def repeats_everything(exchange: Exchange) -> None:
    """A pool at its worst: its errors quote the request's text and headers, and its answers break."""
    sent = exchange.request
    quoted = json.dumps({"prompt": sent.body.decode(), "headers": sent.headers, "said": PLANTED.completion})
    body = json.loads(sent.body)
    kind = body.get("user", "")
    if kind == "stream":
        await exchange.start_stream()
        await exchange.chunk(ROLE + text_frame(PLANTED.completion))
        await exchange.chunk(frame(error={"message": quoted, "type": quoted, "code": 500}))
        await exchange.end_stream()
    elif kind == "schema":
        answer = json.dumps({PLANTED.completion: PLANTED.prompt})
        choice = {"index": 0, "message": {"content": answer}, "finish_reason": "stop"}
        await exchange.answer("200 OK", json.dumps({"choices": [choice]}).encode())
    elif kind == "bytes":
        await exchange.send(b"HTTP/1.1 " + quoted.encode() + b"\r\n\r\n")
        exchange.reset()
    else:
        status = {"400": "400 Bad Request", "401": "401 Unauthorized", "404": "404 Not Found"}.get(kind, "500 Error")
        await exchange.answer(status, json.dumps({"error": {"message": quoted, "type": quoted}}).encode())


async def ask(endpoint: Endpoint, kind: str, **more: Any) -> None:
    """One request with the canaries in it; whatever comes back is the caller's own."""
    messages = [{"role": "user", "content": PLANTED.prompt}]
    body = {"model": "chat", "messages": messages, "user": kind, **more}
    await endpoint.ask("POST", CHAT, PLANTED.api_key, json=body)


async def searched(endpoint: Endpoint, log: Path) -> list[str]:
    """Leaks in what people other than the caller can read."""
    metrics = await endpoint.ask("GET", "/metrics", "ops")
    health = await endpoint.ask("GET", "/health", "ops")
    costs = await endpoint.ask("GET", "/v1/usage?start_time=1&group_by=api_key_id", "ops")
    decisions = [
        (await endpoint.ask("GET", f"/v1/decisions/{one.request_id}", "ops")).body for one in await endpoint.requests(1)
    ]
    return PLANTED.leaks(
        {
            "metrics": metrics.body,
            "health": health.body,
            "usage": costs.body,
            "decisions": b"\n".join(decisions),
            "log": log,
            "ledger": endpoint.ledger.parent,
        }
    )


async def test_answers_leave_no_trace(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Served requests, streamed and not: text and keys are in none of the places that others read."""
    folder = tmp_path / "place"
    folder.mkdir()
    environ = {SECRET: PLANTED.upstream_secret}
    async with before_scripts(folder, {"mid": well}, files(), environ=environ, secret=SECRET) as endpoint:
        for streamed in (False, True):
            await ask(endpoint, "", stream=streamed)
        assert endpoint.upstream["mid"].received[0].headers["authorization"] == f"Bearer {PLANTED.upstream_secret}"
        assert await searched(endpoint, log) == []
    written = capsys.readouterr()
    assert PLANTED.leaks({"out": written.out, "err": written.err}) == []
    assert "RequestEnded" in written.err


async def test_failures_leave_no_trace(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pools that quote everything in their errors do not make us repeat it."""
    folder = tmp_path / "place"
    folder.mkdir()
    environ = {SECRET: PLANTED.upstream_secret}
    scripts = dict.fromkeys(("mid", "other", "big"), repeats_everything)
    schema = {"type": "object", "additionalProperties": {"type": "integer", "description": PLANTED.prompt}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    async with before_scripts(folder, scripts, files(), environ=environ, secret=SECRET) as endpoint:
        await ask(endpoint, "stream", stream=True)
        await ask(endpoint, "schema", response_format=wanted)
        for kind in ("bytes", "500", "400", "401"):
            await ask(endpoint, kind)
        assert await searched(endpoint, log) == []
    written = capsys.readouterr()
    assert PLANTED.leaks({"out": written.out, "err": written.err}) == []


async def test_refusals_repeat_neither_key_nor_prompt(tmp_path: Path, log: Path) -> None:
    """Errors about bad requests name fields, never what stood in them; a wrong key is not repeated."""
    folder = tmp_path / "place"
    folder.mkdir()
    async with before_scripts(folder, {"mid": well}, files()) as endpoint:
        wrong = [
            await endpoint.ask("POST", CHAT, PLANTED.upstream_secret, json={}),
            await endpoint.ask("POST", CHAT, PLANTED.api_key, data=json.dumps(PLANTED.prompt)),
            await endpoint.ask("POST", CHAT, PLANTED.api_key, data=PLANTED.prompt.encode()),
            await endpoint.ask("POST", CHAT, PLANTED.api_key, json={"model": "chat", "messages": [PLANTED.prompt]}),
            await endpoint.ask("POST", CHAT, PLANTED.api_key, json={"model": "chat", "messages": PLANTED.prompt}),
            await endpoint.ask("POST", "/generate", PLANTED.api_key, json={"prompt": [PLANTED.prompt]}),
        ]
        assert {reply.status for reply in wrong} == {400, 401}
        assert PLANTED.leaks({str(place): reply.body for place, reply in enumerate(wrong)}) == []
        await ask(endpoint, "")
        assert await searched(endpoint, log) == []


async def test_a_policy_that_names_a_secret_is_refused_without_it(tmp_path: Path) -> None:
    """A reload of a file with a key in plain text keeps the old policy, and `/health` does not show the key."""
    async with before_scripts(tmp_path, {"mid": well}, files()) as endpoint:
        bad = files()
        bad["tenants"]["acme"]["keys"] = [PLANTED.api_key]
        bad["endpoints"] = {"mid": {"url": "http://127.0.0.1:1", "api_key": PLANTED.upstream_secret}}
        endpoint.write_policy(bad)
        assert endpoint.service.reloader.check_once() == "refused"
        health = await endpoint.ask("GET", "/health", "ops")
    assert len(health.json["policy"]["problems"]) >= 2
    assert PLANTED.leaks({"health": health.body}) == []
