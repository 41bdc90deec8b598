"""Streams of a real vLLM that are cut at every place: what the client gets is what one pool would have said.

Greedy decoding, and two servers with one model. A proxy cuts the connection behind a given frame; test_real_outages
has servers that really die.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.rows import House
from support.before_vllm import before_vllm, vllm_policy
from support.cutting_proxy import CuttingProxy, cutting
from support.endpoint import ASK, CHAT, COMPLETIONS, Endpoint, Policy, events
from support.real_vllm import RealVllm

TOKENS = 40
# A pool is tried again however often it has broken, and cut connections are not taken for requests that are too large.
OFTEN = {"breaker": {"failures": 1000, "window_s": 30, "half_open_after_s": 15}, "shape_cooldown_s": 0.001}
CODE: list[Any] = [{"role": "user", "content": "def sluice(water):\n    # 水门\n"}]
GIVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": ASK}),
    "chat about code": (CHAT, {"messages": CODE}),
    "completion": (COMPLETIONS, {"prompt": "import os\n"}),
    "completion of token ids": (COMPLETIONS, {"prompt": [1, 67, 320, 599]}),
}


@dataclass(frozen=True)
class Cut:
    """An endpoint whose first pool stands behind a proxy, and the proxy."""

    endpoint: Endpoint
    proxy: CuttingProxy

    async def stream(self, path: str, after: int | None, **body: Any) -> list[Any]:
        """The events of a greedy stream, of which what the first pool says is cut behind so many frames.

        A loaded server puts several tokens into a frame: a stream of few frames may end before its cut.
        """
        asked = {"model": "chat", "temperature": 0, "max_tokens": TOKENS, "stream": True, **body}
        self.proxy.cut_after = after
        reply = await self.endpoint.ask("POST", path, json=asked)
        assert reply.status == 200
        return events(reply.body)


@contextlib.asynccontextmanager
async def cut_at_will(folder: Path, first: RealVllm, second: RealVllm, **sections: Any) -> AsyncIterator[Cut]:
    async with cutting(first.url) as proxy:
        files: Policy = {**vllm_policy({"first": first, "second": second}, **OFTEN), **sections}
        files["endpoints"]["first"]["url"] = proxy.url
        async with before_vllm(folder, {}, files) as endpoint:
            yield Cut(endpoint, proxy)


def choices(stream: list[Any]) -> list[Any]:
    return [choice for event in stream[:-1] for choice in event["choices"]]


def said(stream: list[Any]) -> str:
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content", "") for choice in choices(stream)
    )


@pytest.mark.parametrize("given", GIVEN)
async def test_wherever_it_is_cut_the_answer_is_the_unbroken_one(
    tmp_path: Path, long: RealVllm, narrow: RealVllm, given: str
) -> None:
    """Text, role, finish, id, usage and `[DONE]` are those of a stream that was not cut, behind each of its frames, of
    which some end with half a character.
    """
    path, body = GIVEN[given]
    body = {**body, "stream_options": {"include_usage": True}}
    async with cut_at_will(tmp_path, long, narrow) as cut:
        whole = await cut.stream(path, None, **body)
        for after in range(1, TOKENS):
            parts = await cut.stream(path, after, **body)
            assert said(parts) == said(whole)
            assert [one["finish_reason"] for one in choices(parts) if one["finish_reason"]] == ["length"]
            assert sum("role" in one.get("delta", ()) for one in choices(parts)) == (path == CHAT)
            assert len({(event["id"], event["created"], event["model"]) for event in parts[:-1]}) == 1
            if parts[-2]["choices"] == []:  # a cut behind the finish, where the answer is complete, takes it away
                assert {**parts[-2]["usage"], "cost": 0} == {**whole[-2]["usage"], "cost": 0}
            assert parts[-1] == "[DONE]"
            assert not any(word in str(parts) for word in ("token_ids': [", "x_sluice", "error"))
        await cut.endpoint.settled()
        rows = cut.endpoint.rows()
    served = [row.pool for row in rows if row.outcome == "answered" and row.account == "acme"]
    failed = [row.pool for row in rows if row.outcome == "unavailable" and row.account == House.FAILED]
    assert len(served) == TOKENS
    assert set(failed) == {"first"}
    assert TOKENS / 2 < len(failed) <= cut.proxy.cuts


async def test_the_token_ids_are_those_of_the_unbroken_answer(tmp_path: Path, long: RealVllm, narrow: RealVllm) -> None:
    """A client that asks for token ids gets each once, so that the claim of exactness can be checked by anyone."""
    async with cut_at_will(tmp_path, long, narrow) as cut:
        whole, *others = [
            await cut.stream(CHAT, after, messages=CODE, return_token_ids=True) for after in (None, 2, 4, 6, 16)
        ]
    assert cut.proxy.cuts >= 3
    expected = [token for choice in choices(whole) for token in choice.get("token_ids") or ()]
    assert len(expected) == TOKENS
    for parts in others:
        assert [token for choice in choices(parts) for token in choice.get("token_ids") or ()] == expected


async def test_a_stop_string_over_the_cut_ends_the_answer(tmp_path: Path, long: RealVllm, narrow: RealVllm) -> None:
    """A stop string of which one pool said the beginning and the next one the rest is not in the answer."""
    async with cut_at_will(tmp_path, long, narrow) as cut:
        text = said(await cut.stream(CHAT, None, messages=ASK))
        middle = len(text) // 2
        stop = text[middle : middle + 6]
        whole = await cut.stream(CHAT, None, messages=ASK, stop=stop)
        frames = len(whole) - 1
        for after in range(2, frames):
            parts = await cut.stream(CHAT, after, messages=ASK, stop=stop)
            assert said(parts) == said(whole) == text[: text.index(stop)]
            assert [one["finish_reason"] for one in choices(parts) if one["finish_reason"]] == ["stop"]
    assert cut.proxy.cuts > frames / 2


async def test_on_another_model_it_goes_on_from_the_text_and_says_so(
    tmp_path: Path, long: RealVllm, narrow: RealVllm
) -> None:
    """Where the tokenizers differ, as the policy says of the second pool here, and the first pool fails again, the rest
    follows the text that was said, and the usage chunk is marked.
    """
    files = vllm_policy({"first": long, "second": narrow})
    models = {**files["models"], "other": {**files["models"]["tiny"], "tokenizer": "another"}}
    pools = {**files["pools"], "second": {**files["pools"]["second"], "model": "other"}}
    async with cut_at_will(tmp_path, long, narrow, models=models, pools=pools) as cut:
        whole = await cut.stream(CHAT, None, messages=ASK)
        parts = await cut.stream(CHAT, 4, messages=ASK, stream_options={"include_usage": True})
    kept = said(whole[:5])
    assert cut.proxy.cuts == 2
    assert said(parts).startswith(kept)
    assert len(said(parts)) > len(kept)
    assert parts[-2]["x_sluice"] == {"continued": "text"}
    assert parts[-1] == "[DONE]"


@pytest.mark.parametrize(
    "more", [{"n": 2, "temperature": 1}, {"logprobs": True}, {"response_format": {"type": "json_object"}}], ids=str
)
async def test_what_cannot_go_on_ends_with_an_error(
    tmp_path: Path, long: RealVllm, narrow: RealVllm, more: dict[str, Any]
) -> None:
    """Several choices, log probabilities and structured output end in an error event and without `[DONE]`."""
    async with cut_at_will(tmp_path, long, narrow) as cut:
        parts = await cut.stream(CHAT, 3, messages=ASK, **more)
    assert parts[-1]["error"]["code"] == "stream_broken"
