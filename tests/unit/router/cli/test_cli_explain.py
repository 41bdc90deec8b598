"""`sluice explain`: for a request to come, from files or an endpoint, and for a past one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.choose.decide import decide
from policies.errors import PolicyError, UnknownModel
from policies.explain.record import as_json
from policies.policy import Policy
from policies.requirements import Tier
from pricing.errors import StoreUnavailable
from pricing.ledger.read import StoredRequest
from pricing.ledger.rows import House, LedgerRow, RequestRow, RowKind, SchemaResult
from router.cli.explain import Asked, app, requirements
from router.cli.past import render_past
from router.cli.prices_view import console
from router.cli.remote import EndpointTrouble
from router.views.past import past_json
from support.choosing import facts, needs, shipped, write_policy
from support.scripted_server import Exchange, scripted

RUN = CliRunner()
VISION = ["--class", "vision", "--prompt-tokens", "12000", "--max-tokens", "500", "--tier", "standard"]
T4, L4, A10 = "qwen3-vl-8b-awq-t4", "qwen3-vl-8b-fp8-l4", "qwen3-vl-8b-fp8-a10"


def test_json_has_the_choice_its_numbers_and_every_refusal() -> None:
    """The shipped policy, all pools cold: the L4 serves standard vision, the T4 is refused for its tier."""
    result = RUN.invoke(app, [*VISION, "--json"])
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert (document["chosen"]["pool"], document["chosen"]["gpu"], document["chosen"]["cold"]) == (L4, "L4", True)
    assert document["chosen"]["expected_bill_usd"] > document["chosen"]["expected_charge_usd"] > 0
    assert {one["pool"]: one["reason"] for one in document["rejected"]}[T4] == "tier"
    assert document["price_books"] == ["modal-2026-10"]
    assert len(document["candidates"]) + len(document["rejected"]) == len(shipped().pools)


def test_the_table_is_readable_without_a_terminal() -> None:
    """At most 100 columns, no colour codes, the choice in the second line."""
    result = RUN.invoke(app, VISION)
    assert result.output.splitlines()[1].startswith(f"→ {L4} on L4 (cold")
    assert max(map(len, result.output.splitlines())) <= 100
    assert "\x1b" not in result.output


def test_states_of_a_file_change_the_choice(tmp_path: Path) -> None:
    """A warm A10 beats the cold L4."""
    state = write_policy(tmp_path, f"{A10}: {{ready: 1, idle_s: 20}}\n")
    document = json.loads(RUN.invoke(app, [*VISION, "--state", str(state), "--json"]).output)
    assert (document["chosen"]["pool"], document["chosen"]["wait_s"]) == (A10, 0.0)


def test_a_policy_of_ones_own_is_used(tmp_path: Path) -> None:
    """`--policy` names files or folders, secrets need not be set, drained pools are out."""
    text = (
        "version: 1\nprice_book: modal-2026-10\ndrained: [qwen3-4b-fp16-t4]\n"
        "classes: {mine: {ladder: {premium: [qwen3-4b-fp16-t4, qwen3-4b-bf16-a10]}}}\n"
        "endpoints: {qwen3-4b-bf16-a10: {url: 'https://${NOT_SET_ANYWHERE}'}}\n"
    )
    path = write_policy(tmp_path, text)
    document = json.loads(RUN.invoke(app, ["--class", "mine", "--policy", str(path), "--json"]).output)
    assert document["chosen"]["pool"] == "qwen3-4b-bf16-a10"
    assert [one["reason"] for one in document["rejected"]] == ["drained"]


def test_models_resolve_as_clients_names_do() -> None:
    """An alias brings its tier, a pool's name pins it, media classes count items."""
    policy: Policy = shipped()
    alias = requirements(policy, Asked("gpt-4o-mini", 500, None, None, ()))
    assert (alias.request_class, alias.tier, alias.output_bound, alias.bounded) == ("chat", Tier.ECONOMY, 1024, False)
    pinned = requirements(policy, Asked(T4, 500, 10, None, ()))
    assert (pinned.request_class, pinned.pinned_pool) == ("vision", T4)
    media = requirements(policy, Asked("flux-dev", 500, 10, Tier.ECONOMY, (), 3, size="512x768", steps=4))
    assert (media.prompt_tokens, media.output_bound, media.media_items, media.tier) == (0, 0, 3, Tier.ECONOMY)
    assert media.media is not None
    assert (media.media.width, media.media.height, media.media.steps) == (512, 768, 4)


def test_a_larger_picture_takes_longer_and_costs_more() -> None:
    """`--size` and `--steps` are what the endpoint would read in a body; a class of text has none."""
    small, large = (
        json.loads(RUN.invoke(app, ["--class", "flux-dev", "--size", size, "--json"]).output)["chosen"]
        for size in ("512x512", "1024x1024")
    )
    assert small["expected_seconds"] < large["expected_seconds"]
    assert small["expected_charge_usd"] < large["expected_charge_usd"]
    refused = RUN.invoke(app, ["--class", "vision", "--size", "512x512"]).exception
    assert "makes text, which has no 'size'" in str(refused)
    assert "WIDTHxHEIGHT" in str(RUN.invoke(app, ["--class", "flux-dev", "--size", "big"]).exception)


def test_contradictions_and_unknown_names_are_errors() -> None:
    """Two tiers, an unknown name, or neither class nor model: said, not guessed."""
    assert isinstance(RUN.invoke(app, ["--model", "gpt-4o-mini", "--tier", "premium"]).exception, PolicyError)
    assert isinstance(RUN.invoke(app, ["--class", "vison"]).exception, UnknownModel)
    assert "no model ''" in str(RUN.invoke(app, ["--class", ""]).exception)
    assert RUN.invoke(app, []).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["req_1", "--class", "vision"],
        ["req_1", "--policy", "p.yaml"],
        [*VISION, "--url", "http://127.0.0.1:1", "--policy", "p.yaml"],
        [*VISION, "--url", "http://127.0.0.1:1", "--state", "s.yaml"],
    ],
)
def test_what_would_be_left_aside_is_refused(words: list[str]) -> None:
    """A past request is what it was, and an endpoint knows its own policy and pools."""
    assert RUN.invoke(app, words).exit_code == 2


def test_an_address_that_a_variable_left_empty_is_no_file(tmp_path: Path) -> None:
    """`--url "$NOT_SET"` asks nobody's files instead."""
    assert isinstance(RUN.invoke(app, [*VISION, "--url", ""]).exception, EndpointTrouble)
    assert isinstance(RUN.invoke(app, ["req_1", "--url", ""]).exception, EndpointTrouble)


@pytest.mark.parametrize("key", ["sk-test\n", "sk-test\r", "sk-tést", "sk-\u201ctest"])
def test_a_key_that_no_header_can_carry_is_said_and_not_shown(key: str) -> None:
    """As one from a file with its line break, or from a page that made quotes of it."""
    result = RUN.invoke(app, [*VISION, "--url", "http://127.0.0.1:1", "--key", key])
    assert isinstance(result.exception, EndpointTrouble)
    assert "such as a line break; write it again" in str(result.exception)
    assert "test" not in str(result.exception)


async def test_an_endpoint_is_asked_for_its_own_view() -> None:
    """`--url` posts the numbers to /v1/route with the key and draws what comes back."""
    answer = json.dumps(as_json(decide(facts(needs("vision"))))).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", answer)

    async with scripted(script) as server:
        arguments = [*VISION, "--feature", "tools", "--url", f"{server.url}/v1", "--key", "sk-test"]
        result = await asyncio.to_thread(RUN.invoke, app, arguments)
    assert result.exit_code == 0, result.exception
    assert f"→ {L4}" in result.output
    [received] = server.received
    assert (received.method, received.path) == ("POST", "/v1/route")
    assert received.headers["authorization"] == "Bearer sk-test"
    assert json.loads(received.body) == {
        "model": "vision",
        "prompt_tokens": 12_000,
        "max_tokens": 500,
        "tier": "standard",
        "features": ["tools"],
    }


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("401 Unauthorized", b'{"error": {"message": "this key is unknown"}}', "401: this key is unknown"),
        ("502 Bad Gateway", b"<html>", "without JSON"),
    ],
)
async def test_an_endpoint_in_trouble_is_reported_without_the_key(status: str, body: bytes, said: str) -> None:
    """The endpoint's own message is passed on, and nothing else."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body)

    async with scripted(script) as server:
        result = await asyncio.to_thread(RUN.invoke, app, ["req_1", "--url", server.url, "--key", "sk-test"])
    assert isinstance(result.exception, EndpointTrouble)
    assert said in str(result.exception)
    assert "sk-test" not in str(result.exception)


def test_nobody_listening_is_said() -> None:
    """A wrong address is an answer for operators, not a trace."""
    result = RUN.invoke(app, [*VISION, "--url", "http://127.0.0.1:1"])
    assert isinstance(result.exception, EndpointTrouble)
    assert "is the endpoint running there?" in str(result.exception)


def stored() -> StoredRequest:
    """A request whose first attempt ran out of memory at the house's cost, and whose second was answered."""
    money = {"at_us": 1_767_225_600_000_000, "kind": RowKind.ATTEMPT, "model": "qwen3-vl-8b", "policy_version": "v"}
    rest = {"price_books": "modal-2026-10", "tenant": "acme", "request_id": "req_1", "duration_us": 2_000_000}
    first = LedgerRow(
        row_id="req_1:1:attempt",
        account=House.FAILED,
        amount_nusd=300_000,
        metered_nusd=300_000,
        pool=T4,
        gpu="T4",
        attempt=1,
        outcome="out_of_memory",
        **money,
        **rest,
    )
    second = LedgerRow(
        row_id="req_1:2:attempt",
        account="acme",
        amount_nusd=700_000,
        metered_nusd=700_000,
        pool=L4,
        gpu="L4",
        attempt=2,
        outcome="answered",
        ttft_us=400_000,
        schema_result=SchemaResult.KEPT,
        **money,
        **rest,
    )
    summary = RequestRow(
        request_id="req_1",
        at_us=1_767_225_600_000_000,
        tenant="acme",
        key_id="acme-1",
        endpoint="/v1/chat/completions",
        model_asked="vision",
        request_class="vision",
        tier_asked="standard",
        tier_served="standard",
        pool=L4,
        outcome="served",
        status=200,
        error_code=None,
        attempts=2,
        stream=False,
        duration_us=4_100_000,
        prompt_tokens=12_000,
        completion_tokens=480,
        baseline_nusd=None,
        policy_version="v",
        decisions_json=b"",
        schema_asked=True,
    )
    decision = as_json(decide(facts(needs("vision"))))
    return StoredRequest(summary, (decision, decision), (first, second))


def test_a_past_request_is_told_with_its_attempts_and_decisions() -> None:
    """The tenant's cost leaves the house's part out; each attempt has its end, its payer and its seconds."""
    document = json.loads(json.dumps(past_json(stored())))
    assert (document["request_id"], document["cost_usd"], document["at"]) == (
        "req_1",
        0.0007,
        "2026-01-01T00:00:00.000+00:00",
    )
    assert [(one["pool"], one["outcome"], one["paid_by"]) for one in document["attempts"]] == [
        (T4, "out_of_memory", "__failed__"),
        (L4, "answered", "acme"),
    ]
    assert (document["schema_asked"], [one["schema"] for one in document["attempts"]]) == (True, [None, "kept"])
    assert [one["chosen"]["pool"] for one in document["decisions"]] == [L4, L4]
    screen = console()
    with screen.capture() as captured:
        screen.print(render_past(document))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 100
    for word in ("req_1", "out_of_memory", "__failed__", "decision 2", "paid $0.000700", "answered, schema kept"):
        assert word in text


def test_a_ledger_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    """The error names the option and the variable."""
    result = RUN.invoke(app, ["req_1", "--ledger", str(tmp_path / "none.sqlite")])
    assert isinstance(result.exception, StoreUnavailable)
    assert "--ledger" in str(result.exception)
