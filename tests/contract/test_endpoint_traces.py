"""A client's trace goes up with its request, and its id into the log; nothing else of the header does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.telemetry.log import LOGGER
from support.endpoint import before_scripts, one_pool
from support.scripted_server import Exchange

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def at_info() -> Iterator[None]:
    """The level that `sluice serve` starts with."""
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield
    LOGGER.setLevel(before)


@pytest.mark.parametrize(("sent", "passed", "known"), [(PARENT, PARENT, TRACE), ("00-of-no-kind", None, None)])
async def test_a_trace_goes_up_and_into_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: str, passed: str | None, known: str | None
) -> None:
    """To the pool as it came, where the standard knows it; the request is served in any case."""
    went_up: list[str | None] = []

    async def pool(exchange: Exchange) -> None:
        went_up.append(exchange.request.headers.get("traceparent"))
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        await exchange.answer("200 OK", json.dumps({"choices": [choice]}).encode())

    async with before_scripts(tmp_path, {"small": pool}, one_pool()) as endpoint:
        reply = await endpoint.chat(headers={"traceparent": sent})
    lines: list[Any] = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert reply.status == 200
    assert went_up == [passed]
    assert [line["trace_id"] for line in lines if line["event"] == "RequestEnded"] == [known]
