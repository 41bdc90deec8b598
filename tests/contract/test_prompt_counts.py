"""Where an estimate is too near a limit, a pool that is awake counts the prompt, by the name that it serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.endpoint import CHAT, COMPLETIONS, before_simulated
from support.simulated import SPEC, simulated

TEXT = "the gate lets the water of the upper river into the mill " * 210  # 11,970 bytes


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_near_a_limit_the_decision_has_the_engine_s_count(tmp_path: Path, path: str) -> None:
    """`model` is a class to the client and a repository to the engine, which counts for no other name."""
    given = {"prompt": TEXT} if path == COMPLETIONS else {"messages": [{"role": "user", "content": TEXT}]}
    # In real time: a faster clock would leave a slow machine no time to count in.
    async with before_simulated(tmp_path, speedup=1, awake=("small", "mid")) as endpoint:
        reply = await endpoint.ask("POST", path, json={"model": "chat:economy", "max_tokens": 8, **given})
        [decision] = json.loads((await endpoint.request()).decisions_json)
    assert decision["prompt_tokens"] == reply.json["usage"]["prompt_tokens"]


async def test_a_simulated_engine_counts_only_for_the_model_it_has() -> None:
    """As on vLLM, `/tokenize` of another model's name is a 404, and of none the count."""
    async with simulated() as pool:
        wrong, body = await pool.post("/tokenize", {"model": "chat", "prompt": "one two"})
        right, _ = await pool.post("/tokenize", {"model": SPEC.served_model_name, "prompt": "one two"})
        none, _ = await pool.post("/tokenize", {"prompt": "one two"})
    assert (wrong, json.loads(body)["error"]["param"]) == (404, "model")
    assert (right, none) == (200, 200)
