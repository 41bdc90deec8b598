"""The cost is written into an answer's usage, and nothing else of it changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.output.answers import texts_of, with_cost

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.just("usage"), inner, max_size=3)
    ),
    max_leaves=12,
)
USAGES = st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "cost", "details"]), VALUES, max_size=3)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5), USAGES, st.sampled_from([None, 0, 1, 393_852, 10**15]))
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_only_the_cost_changes(
    indent: int | None, separators: tuple[str, str], other: dict[str, Any], usage: dict[str, Any], charge: int | None
) -> None:
    """Whatever stands beside and inside it, and however it is spaced: `usage.cost` in dollars, or null when unknown."""
    answer = {**other, "usage": usage}
    body = json.dumps(answer, indent=indent, separators=separators, ensure_ascii=False).encode()
    expected = {**answer, "usage": {**usage, "cost": None if charge is None else charge / 1e9}}
    assert json.loads(with_cost(body, charge)) == expected


@pytest.mark.parametrize("body", [b"{}", b'{"usage":null}', b'{"choices":[]}', b'{"x":{"usage":{"a":1}}}'])
def test_an_answer_without_usage_stays_as_it_is(body: bytes) -> None:
    """There is nothing to write the cost in; the header has it."""
    assert with_cost(body, 5) == body


def test_a_usage_that_stands_twice_is_priced_at_the_top() -> None:
    """A nested copy of the same usage, found first, is not mistaken for the answer's own."""
    body = b'{"x":{"usage":{"a":1}},"usage":{"a":1}}'
    assert json.loads(with_cost(body, 10**9)) == {"x": {"usage": {"a": 1}}, "usage": {"a": 1, "cost": 1.0}}


def test_texts_tell_tool_calls_from_silence() -> None:
    """Chat, tool calls and completions each give their finish reason, text and whether tools were called."""
    chat = {"finish_reason": "stop", "message": {"content": "hi"}}
    tools = {"finish_reason": "tool_calls", "message": {"content": None, "tool_calls": [{"id": "1"}]}}
    plain = {"finish_reason": "length", "text": "once"}
    body = json.dumps({"choices": [chat, tools, plain]}).encode()
    assert texts_of(body) == [("stop", "hi", False), ("tool_calls", "", True), ("length", "once", False)]
