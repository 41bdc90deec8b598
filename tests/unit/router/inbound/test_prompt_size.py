"""Prompts are estimated, and counted by an engine only where that decides something and costs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.policy import RequestClass
from policies.requirements import Requirements
from pools.live.all_pools import LivePools, LiveSettings
from pricing.clock import ManualClock
from router.inbound.prompt_size import PromptSizes
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse
from support.choosing import ladder, needs, rung
from support.values import replace

L4, L40S = rung("qwen3-vl-8b-fp8-l4"), rung("qwen3-vl-8b-bf16-l40s")
TWO = ladder(L4, L40S)


class Counting:
    """A pool that counts; `asked` has the bodies it was sent."""

    def __init__(self, tokens: int | None) -> None:
        self.tokens = tokens
        self.asked: list[Any] = []

    async def count_tokens(self, body: bytes, timeout_s: float) -> int | None:
        self.asked.append(json.loads(body))
        return self.tokens


def sizes(backend: Counting, *awake: str) -> PromptSizes:
    live = LivePools(ManualClock(), on_change=lambda *_: None, on_missed=lambda *_: None)
    live.configure(
        {one.pool.name: LiveSettings(60.0, 120.0, always_on=int(one.pool.name in awake)) for one in TWO.ladder}
    )
    backends: Any = {one.pool.name: backend for one in TWO.ladder}
    return PromptSizes(backends, live)


def chat(tokens: int) -> Parsed:
    """A prompt that is estimated as about that many tokens."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "x" * (4 * tokens)}]}
    return parse(CHAT_PATH, json.dumps(body).encode())


async def needed(
    found: PromptSizes, parsed: Parsed, output: int = 100, request_class: RequestClass = TWO, **more: Any
) -> Requirements:
    tokens, exact = found.estimate(parsed, request_class)
    asked = replace(needs("chat", prompt=tokens, output=output), prompt_exact=exact, **more)
    return await found.exact_near_limits(parsed, request_class, asked)


@pytest.mark.parametrize("tokens", [100, 100_000])
async def test_far_from_every_limit_nobody_is_asked(tokens: int) -> None:
    """Where the estimate cannot be wrong about which pools fit, it stands."""
    backend = Counting(5)
    found = await needed(sizes(backend, L4.pool.name), chat(tokens))
    assert backend.asked == []
    assert not found.prompt_exact
    assert found.prompt_tokens == pytest.approx(tokens, rel=0.1)


async def test_near_a_limit_the_pool_counts() -> None:
    """The L4's context lies within the estimate's range: the engine is asked under its own model's name."""
    backend = Counting(31_000)
    found = await needed(sizes(backend, L4.pool.name), chat(L4.pool.max_model_len - 200))
    assert (found.prompt_tokens, found.prompt_exact) == (31_000, True)
    assert [body["model"] for body in backend.asked] == [L4.pool.served_model_name]


async def test_a_sleeping_pool_is_never_asked() -> None:
    """Counting would wake it, and bill."""
    backend = Counting(5)
    assert not (await needed(sizes(backend), chat(L4.pool.max_model_len - 200))).prompt_exact
    assert backend.asked == []


async def test_an_engine_that_cannot_count_leaves_the_estimate() -> None:
    """No answer is no error."""
    found = await needed(sizes(Counting(None), L4.pool.name), chat(L4.pool.max_model_len - 200))
    assert not found.prompt_exact


async def test_token_ids_are_their_own_count() -> None:
    """What came as ids needs neither estimate nor engine, and teaches nothing."""
    backend = Counting(5)
    found = sizes(backend, L4.pool.name)
    parsed = parse(COMPLETIONS_PATH, json.dumps({"model": "chat", "prompt": [7] * 32_700}).encode())
    asked = await needed(found, parsed)
    found.observe(parsed, L4.pool, 1)
    assert (asked.prompt_tokens, asked.prompt_exact, backend.asked) == (32_700, True, [])
    assert found.estimate(chat(1_000), TWO)[0] == pytest.approx(1_000, rel=0.05)


async def test_several_answers_are_weighed_one_by_one() -> None:
    """The limit that matters is that of one sequence: four answers of 100 tokens need 100 beside the prompt."""
    backend = Counting(31_000)
    prompt = chat(L4.pool.max_model_len - 200)
    found = await needed(sizes(backend, L4.pool.name), prompt, output=400, sequences=4)
    assert found.prompt_exact


async def test_answers_teach_the_ratio() -> None:
    """A text that has half as many tokens as was thought is estimated shorter the next time."""
    found = sizes(Counting(None))
    before, _ = found.estimate(chat(10_000), TWO)
    for _ in range(50):
        found.observe(chat(10_000), L4.pool, 5_000)
    after, exact = found.estimate(chat(10_000), TWO)
    assert not exact
    assert after == pytest.approx(before / 2, rel=0.1)
