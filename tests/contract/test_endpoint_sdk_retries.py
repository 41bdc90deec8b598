"""How often the official client sends each request that fails: what was paid for once, what passes until it is served.

The client sleeps in real time; its pauses are shortened by as much as the endpoint's clock is faster. It repeats twice
by default. docs/errors.md has the table that these tests hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from pricing.clock import ScaledClock
from support.endpoint import ASK, SPEEDUP, Endpoint, Policy, before_scripts, before_simulated, one_pool, policy
from support.scripted_server import ENGINE_DIED, ROLE, Exchange, text_frame

ANSWER = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@dataclass
class Heard:
    """What an official client was told, answer by answer: status, `x-should-retry`, seconds of `Retry-After`."""

    answers: list[tuple[int, str | None, float | None]] = field(default_factory=list)

    async def note(self, response: Any) -> None:
        waits = response.headers.get("retry-after")
        self.answers.append(
            (response.status_code, response.headers.get("x-should-retry"), None if waits is None else float(waits))
        )
        if waits is not None:
            response.headers["retry-after"] = f"{float(waits) / SPEEDUP:.3f}"

    @property
    def statuses(self) -> list[int]:
        return [status for status, _, _ in self.answers]

    @property
    def advice(self) -> list[str | None]:
        return [advice for _, advice, _ in self.answers]


@contextlib.asynccontextmanager
async def official(endpoint: Endpoint) -> AsyncIterator[tuple[AsyncOpenAI, Heard]]:
    """An official client with its default of two retries."""
    heard = Heard()
    transport = DefaultAsyncHttpxClient(event_hooks={"response": [heard.note]})
    async with endpoint.client(http_client=transport) as client:
        yield client, heard


async def refused(endpoint: Endpoint, **asked: Any) -> tuple[str | None, Heard]:
    """The code that a request ends in, and what was heard until then."""
    async with official(endpoint) as (client, heard):
        with pytest.raises(openai.APIStatusError) as error:
            await client.chat.completions.create(model="chat", messages=ASK, max_tokens=4, **asked)
    return error.value.code, heard


async def served(endpoint: Endpoint) -> Heard:
    """What was heard until a request was served."""
    async with official(endpoint) as (client, heard):
        answer = await client.chat.completions.create(model="chat", messages=ASK, max_tokens=4)
        assert answer.choices[0].message.content
    return heard


# -- paid for, or not to be mended by repeating: sent once -------------------------------------------------------------


async def test_a_budget_that_is_spent(tmp_path: Path) -> None:
    """It comes back when the window moves on, which is hours; the client raises at once."""
    caps = [{"name": "day", "amount_usd": "0.000000001", "window": "24h", "scope": "tenant:acme"}]
    async with before_simulated(tmp_path, policy(caps=caps), awake=("mid",)) as endpoint:
        code, heard = await refused(endpoint)
    assert (code, heard.statuses, heard.advice) == ("budget_exceeded", [429], ["false"])


async def test_a_chain_that_failed(tmp_path: Path) -> None:
    """Its attempts were paid for; a repeat would buy them again."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        await endpoint.fail("small", "refuse", count=9)
        code, heard = await refused(endpoint)
    assert (code, heard.answers) == ("chain_failed", [(502, "false", None)])


async def test_a_chain_that_ran_out_of_time(tmp_path: Path) -> None:
    """The same, and its client has waited long enough."""
    files = one_pool(defaults={"first_token_timeout_s": 5, "max_total_s": 20, "first_byte_deadline_s": 20})
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        await endpoint.fail("small", "hang", count=9)
        code, heard = await refused(endpoint, stream=True)
    assert (code, heard.answers) == ("chain_timeout", [(504, "false", None)])


async def test_a_schema_that_no_pool_keeps(tmp_path: Path) -> None:
    """Answers were made and paid for, none of them good."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        await endpoint.fail("small", "bad_json", count=9)
        code, heard = await refused(endpoint, response_format=SCHEMA)
    assert (code, heard.answers) == ("schema_violation", [(502, "false", None)])


async def test_a_stream_that_broke_after_its_first_byte(tmp_path: Path) -> None:
    """The error event ends the client's stream in an exception; it does not send the request again."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in (ROLE, text_frame("hi"), ENGINE_DIED):
            await exchange.chunk(chunk)
        await exchange.end_stream()

    async with before_scripts(tmp_path, {"small": script}, one_pool()) as endpoint, official(endpoint) as opened:
        client, heard = opened
        stream = await client.chat.completions.create(model="chat", messages=ASK, n=2, stream=True)
        with pytest.raises(openai.APIError) as error:
            async for _ in stream:
                pass
    assert (error.value.code, heard.statuses) == ("stream_broken", [200])


async def test_pools_that_only_an_operator_can_bring_back(tmp_path: Path) -> None:
    """Nothing ran, but nothing will change by itself either."""
    async with before_simulated(tmp_path, one_pool(drained=["small"])) as endpoint:
        code, heard = await refused(endpoint)
    assert (code, heard.answers) == ("no_capable_pool", [(503, "false", None)])


async def test_a_pool_that_is_not_what_the_files_say(tmp_path: Path) -> None:
    """One request a minute looks whether it was mended, but most likely only an operator can do that."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("404 Not Found", b'{"error": {"message": "The model `x` does not exist.", "code": 404}}')

    async with before_scripts(tmp_path, {"small": script}, one_pool()) as endpoint:
        first, _ = await refused(endpoint)
        code, heard = await refused(endpoint)
    assert (first, code, heard.answers) == ("chain_failed", "no_capable_pool", [(503, "false", None)])


async def test_a_wait_that_is_longer_than_clients_wait(tmp_path: Path) -> None:
    """A shape cools down for minutes: `Retry-After` says how long, and that the client need not try before."""
    files = one_pool(defaults={"shape_cooldown_s": 300})
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        await endpoint.fail("small", "out_of_memory")
        first, _ = await refused(endpoint)
        code, heard = await refused(endpoint)
    [(status, advice, waits_s)] = heard.answers
    assert (first, code, status, advice) == ("chain_failed", "no_capable_pool", 503, "false")
    assert waits_s is not None
    assert 200 < waits_s <= 300


# -- what passes: sent again until it is served ------------------------------------------------------------------------


async def test_a_pool_that_boots_for_longer_than_a_request_may_wait(tmp_path: Path) -> None:
    """The client comes back after a minute, which every release of it waits; the rest of the boot it waits for here."""
    files = slow_boot(boot_s=75, first_byte_deadline_s=30)
    async with before_simulated(tmp_path, files) as endpoint:
        heard = await served(endpoint)
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert heard.answers == [(503, "true", 60.0), (200, None, None)]
    assert len(containers) == 1


async def test_a_pool_that_boots_for_two_minutes(tmp_path: Path) -> None:
    """Two pauses, the second as long as what should be left of the boot; if it takes longer, that is waited for."""
    async with before_simulated(tmp_path, slow_boot(boot_s=110, first_byte_deadline_s=30)) as endpoint:
        heard = await served(endpoint)
    [first, second, last] = heard.answers
    assert (first, last) == ((503, "true", 60.0), (200, None, None))
    assert second[:2] == (503, "true")
    assert second[2] is not None
    assert 30 < second[2] <= 50


async def test_a_boot_that_takes_longer_than_it_should(tmp_path: Path) -> None:
    """The request waited for it as long as it may. Nothing ran: it may be sent again, and finds the pool up."""
    up = False

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "POST":
            await exchange.answer("200 OK", ANSWER)
        else:
            await exchange.answer("200 OK" if up else "503 Service Unavailable", b"", "text/plain")

    files = slow_boot(boot_s=8, first_byte_deadline_s=10)
    clock = ScaledClock(SPEEDUP)
    async with before_scripts(tmp_path, {"small": script}, files, asleep=("small",), clock=clock) as endpoint:
        reply = await endpoint.chat()
        up = True
        heard = await served(endpoint)
        [first, *_] = reversed(await endpoint.requests(2))
    assert (reply.status, reply.code) == (503, "model_warming")
    assert (reply.headers["x-should-retry"], reply.headers["retry-after"]) == ("true", "2")
    assert (first.outcome, first.attempts) == ("refused", 0)
    assert heard.statuses[-1] == 200


async def test_a_breaker_that_lets_a_request_through_soon(tmp_path: Path) -> None:
    """The client comes back when the breaker is half open, as the request that tries the pool."""
    files = one_pool(defaults={"breaker": {"failures": 1, "half_open_after_s": 20}, "max_attempts": 1})
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        await endpoint.fail("small", "refuse")
        first, _ = await refused(endpoint)
        heard = await served(endpoint)
    assert first == "chain_failed"
    assert heard.statuses == [503, 200]
    assert heard.advice[0] == "true"


async def test_pools_that_are_overloaded(tmp_path: Path) -> None:
    """Their refusals cost nothing, and end soon."""
    tries = 0

    async def script(exchange: Exchange) -> None:
        nonlocal tries
        tries += exchange.request.method == "POST"  # looks at its metrics are none
        busy = b'{"error": {"message": "The queue is full.", "type": "ServiceUnavailableError", "code": 503}}'
        await (exchange.answer("503 X", busy) if tries <= 2 else exchange.answer("200 OK", ANSWER))

    files = one_pool(defaults={"max_attempts": 1})
    async with before_scripts(tmp_path, {"small": script}, files, clock=ScaledClock(SPEEDUP)) as endpoint:
        heard = await served(endpoint)
    assert (heard.statuses, heard.advice) == ([503, 503, 200], ["true", "true", None])


def slow_boot(boot_s: float, first_byte_deadline_s: float) -> Policy:
    files = one_pool(defaults={"first_byte_deadline_s": first_byte_deadline_s})
    files["pools"]["small"]["boot_s"] = boot_s
    return files
