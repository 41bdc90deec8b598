"""Expected answers, end to end: what they are drawn from, what shows of them, what the ledger keeps to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policies.predict.model_file import write_model
from pricing.ledger.answers import newest_answers
from support.endpoint import ASK, Endpoint, before_scripts, one_pool
from support.models import small_model
from support.scripted_server import Exchange

TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
TOKENS = 40


async def answering(exchange: Exchange) -> None:
    """As many answers as were asked for, of 40 tokens each."""
    asked = json.loads(exchange.request.body)
    count = asked.get("n") or 1
    message = {"role": "assistant", "content": "hi"}
    choices = [{"index": number, "message": message, "finish_reason": "stop"} for number in range(count)]
    usage = {"prompt_tokens": 7, "completion_tokens": TOKENS * count}
    await exchange.answer("200 OK", json.dumps({"choices": choices, "usage": usage}).encode())


async def counted(endpoint: Endpoint, ground: str, level: str = "0.5") -> dict[str, float]:
    """Answers above and not above what was expected."""
    text = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("sluice_output_predictions_total{") and f'ground="{ground}",level="{level}"' in line:
            found[line.partition('result="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
    return found


async def test_what_was_asked_is_in_the_ledger_to_learn_from(tmp_path: Path) -> None:
    """Bound, features, stream and number of answers of each request come back as `sluice train` reads them."""
    async with before_scripts(tmp_path, {"small": answering}, one_pool()) as endpoint:
        await endpoint.chat(max_tokens=300, n=2)
        await endpoint.chat(tools=TOOLS)
        await endpoint.settled()
        newest, _ = await endpoint.requests(2)
        second, first = newest_answers(endpoint.ledger, 10)
        row = (await endpoint.ask("GET", f"/v1/decisions/{newest.request_id}")).json
    assert (first.max_tokens, first.sequences, first.completion_tokens, first.features) == (300, 2, 2 * TOKENS, ())
    assert (second.max_tokens, second.sequences, second.completion_tokens) == (None, 1, TOKENS)
    assert (second.tenant, second.request_class, second.features) == ("acme", "chat", ("tools",))
    assert second.ended_us > second.at_us > first.at_us
    assert (row["max_tokens"], row["sequences"], row["features"]) == (None, 1, ["tools"])


async def expected_s(endpoint: Endpoint) -> float:
    """Seconds that the next such request is expected to take, as `/v1/route` says without running it."""
    decision = (await endpoint.ask("POST", "/v1/route", json={"model": "chat", "messages": ASK})).json
    seconds: float = decision["candidates"][0]["expected_seconds"]
    return seconds


async def test_a_tenants_answers_teach_what_to_expect(tmp_path: Path) -> None:
    """The first request is expected from the prior, the next from history, which comes down to what answers have."""
    async with before_scripts(tmp_path, {"small": answering}, one_pool()) as endpoint:
        planned = [await expected_s(endpoint)]
        for _ in range(12):
            await endpoint.chat()
            planned.append(await expected_s(endpoint))
        await endpoint.requests(12)
        prior, history = await counted(endpoint, "prior"), await counted(endpoint, "history")
    assert planned == sorted(planned, reverse=True)
    assert planned[-1] < 0.5 * planned[0]
    assert (prior, history) == ({"not_above": 1}, {"not_above": 11})


async def test_a_model_of_the_policy_is_asked_and_shows_in_metrics(tmp_path: Path) -> None:
    """With the switch on its file, requests of its class are expected from it, and its age can be read."""
    write_model(tmp_path / "model.json", small_model())
    predict = {"output_tokens": "model", "file": str(tmp_path / "model.json")}
    async with before_scripts(tmp_path, {"small": answering}, one_pool(predict=predict)) as endpoint:
        await endpoint.chat()
        await endpoint.requests(1)
        metrics = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
        model = await counted(endpoint, "model")
    assert sum(model.values()) == 1
    name = f'sluice_output_model_trained_timestamp_seconds{{version="{small_model().version}"}}'
    assert f"{name} 1.7672256e+09" in metrics
