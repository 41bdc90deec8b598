"""Sessions end to end: turns of one conversation go where its cache is, while that is worth it, and no further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.endpoint import KEYS, Endpoint, Policy, before_scripts, before_simulated, policy
from support.scripted_server import Exchange

SESSION = {"x-sluice-session-id": "a conversation"}
LONG = [{"role": "user", "content": "tell me about the sea " * 1_000}]  # about 5,000 tokens
SHORT = [{"role": "user", "content": "tell me about the sea"}]
ON = [{"role": "assistant", "content": "it is wet"}, {"role": "user", "content": "go on"}]


def pair(objective: str = "fastest") -> Policy:
    """An L4 and an A10: `mid` is the faster for long prompts, `other` for short ones."""
    return policy(classes={"chat": {"ladder": {"premium": ["mid", "other"]}, "objective": objective}})


async def served_by(endpoint: Endpoint, messages: list[dict[str, str]], model: str = "chat", **more: Any) -> str:
    reply = await endpoint.chat(model=model, messages=messages, max_tokens=8, **more)
    assert reply.status == 200
    return reply.headers["x-sluice-pool"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_long_conversation_stays_where_its_cache_is(tmp_path: Path, streamed: bool) -> None:
    """The second turn goes to the slower pool that has seen the first, and a stranger's to the faster one."""
    async with before_simulated(tmp_path, pair(), awake=("mid", "other")) as endpoint:
        assert await served_by(endpoint, LONG, "other", headers=SESSION, stream=streamed) == "other"
        assert await served_by(endpoint, [*LONG, *ON], headers=SESSION, stream=streamed) == "other"
        assert await served_by(endpoint, [*LONG, *ON]) == "mid"
        assert await served_by(endpoint, [*LONG, *ON], headers={"x-session-id": "another"}) == "mid"
        assert await served_by(endpoint, [*LONG, *ON], headers=SESSION, key="globex") == "mid"


async def test_the_user_of_the_body_is_a_session_too(tmp_path: Path) -> None:
    """Clients that know nothing of our headers send `user`."""
    async with before_simulated(tmp_path, pair(), awake=("mid", "other")) as endpoint:
        assert await served_by(endpoint, LONG, "other", user="jane") == "other"
        assert await served_by(endpoint, [*LONG, *ON], user="jane") == "other"
        assert await served_by(endpoint, [*LONG, *ON], user="joe") == "mid"


async def test_a_short_conversation_moves(tmp_path: Path) -> None:
    """The few tokens that its pool has seen are worth less than the faster pool."""
    async with before_simulated(tmp_path, pair(), awake=("mid", "other")) as endpoint:
        assert await served_by(endpoint, SHORT, "mid", headers=SESSION) == "mid"
        assert await served_by(endpoint, [*SHORT, *ON], headers=SESSION) == "other"


async def test_another_conversation_of_the_session_moves(tmp_path: Path) -> None:
    """A prompt that does not begin with the last turn's finds no cache."""
    async with before_simulated(tmp_path, pair(), awake=("mid", "other")) as endpoint:
        assert await served_by(endpoint, LONG, "other", headers=SESSION) == "other"
        assert await served_by(endpoint, [*ON, *LONG], headers=SESSION) == "mid"


async def test_when_its_pool_is_down_the_conversation_goes_on_elsewhere(tmp_path: Path) -> None:
    """The turn is served by the other pool, which from then on is the one that has its cache."""
    async with before_simulated(tmp_path, pair(), awake=("mid", "other")) as endpoint:
        assert await served_by(endpoint, LONG, "other", headers=SESSION) == "other"
        await endpoint.control("POST", "/pools/other/down")
        assert await served_by(endpoint, [*LONG, *ON], headers=SESSION) == "mid"
        asked = {"model": "chat", "messages": [*LONG, *ON, *ON], "max_tokens": 8}
        decision = (await endpoint.ask("POST", "/v1/route", json=asked, headers=SESSION)).json
        saving = {one["pool"]: one["cache_saves_s"] for one in decision["candidates"]}
        assert saving["mid"] > 0
        assert saving.get("other", 0) == 0


async def test_a_decision_shows_what_the_cache_saves_to_its_own_tenant(tmp_path: Path) -> None:
    """`/v1/route` and the decision in the ledger have it as a number of its own; another tenant sees nothing."""
    asked = {"model": "chat", "messages": [*LONG, *ON], "max_tokens": 8}
    async with before_simulated(tmp_path, pair("cheapest"), awake=("mid", "other")) as endpoint:
        await served_by(endpoint, LONG, "mid", headers=SESSION)
        own = (await endpoint.ask("POST", "/v1/route", json=asked, headers=SESSION)).json
        strangers = (await endpoint.ask("POST", "/v1/route", "globex", json=asked, headers=SESSION)).json
        reply = await endpoint.ask("POST", "/v1/chat/completions", json=asked, headers=SESSION)
        past = (await endpoint.ask("GET", f"/v1/decisions/{reply.headers['x-sluice-request-id']}")).json
    [mid] = [one for one in own["candidates"] if one["pool"] == "mid"]
    assert mid["cache_saves_s"] > 0 < mid["cache_saves_usd"] < mid["expected_bill_usd"]
    assert {one["cache_saves_s"] for one in strangers["candidates"]} == {0.0}
    [decision] = past["decisions"]
    assert decision["chosen"]["cache_saves_s"] > 0


async def test_the_container_is_asked_for_by_a_hash(tmp_path: Path) -> None:
    """Every turn of a session names it upstream alike, and not by its name; without a session nothing is named."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}')

    files = policy(classes={"chat": {"ladder": {"premium": ["small"]}}})
    async with before_scripts(tmp_path, {"small": script}, files) as endpoint:
        await served_by(endpoint, SHORT, headers=SESSION)
        await served_by(endpoint, [*SHORT, *ON], headers=SESSION)
        await served_by(endpoint, SHORT, headers=SESSION, key="globex")
        await served_by(endpoint, SHORT)
        received = [one.headers.get("modal-session-id") for one in endpoint.upstream["small"].received]
        sent = [one.headers for one in endpoint.upstream["small"].received]
    first, second, globex, none = received
    assert first == second != globex
    assert none is None
    assert len(first or "") == 32
    assert SESSION["x-sluice-session-id"] not in str(sent)
    assert KEYS["acme"] not in str(sent)
