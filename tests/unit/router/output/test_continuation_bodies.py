"""What the next pool is asked for, and whether it can be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.requirements import Continues
from pools.wire.chunk import chunk_of
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, parse
from router.output.continuation import Asked, Broken, asked, by_text, by_tokens, needs_after, unsent_of, ways
from router.output.transcript import Transcript
from support.broken_streams import ANSWER, PROMPT_IDS, TEXT, frames
from support.choosing import needs
from support.simulated import SPEC
from support.values import replace

ASK = [{"role": "user", "content": "hé"}]


def wanted(path: str = CHAT_PATH, **fields: Any) -> Asked | None:
    body = {"model": "chat", "stream": True, **({"messages": ASK} if path == CHAT_PATH else {}), **fields}
    return asked(parse(path, json.dumps(body).encode()))


def transcript(cut: int = len(ANSWER), chat: bool = True) -> Transcript:
    """Of a stream that broke after that many tokens."""
    written = Transcript("tiny")
    for one in frames(chat, PROMPT_IDS, ANSWER, 1000)[: cut + chat]:
        data = one.removeprefix(b"data: ").strip()
        written.note(chunk_of(data), data)
    return written


def broken(cut: int, path: str = CHAT_PATH, **fields: Any) -> Broken:
    found = wanted(path, **fields)
    assert found is not None
    return Broken(found, transcript(cut, path == CHAT_PATH), needs("chat"), len(PROMPT_IDS), cut)


@given(st.integers(1, len(ANSWER)), st.booleans())
def test_prompt_and_answer_go_on_token_by_token(cut: int, chat: bool) -> None:
    """The prompt is the first pool's ids and all that were generated, and the bound is what is left."""
    one = broken(cut, **({} if chat else {"path": COMPLETIONS_PATH, "prompt": "hé"}), max_tokens=20)
    body = json.loads(by_tokens(one, SPEC))
    assert body["prompt"] == PROMPT_IDS + [token for token, _ in ANSWER[:cut]]
    assert body["max_tokens"] == 20 - cut
    assert one.transcript.said == "".join(text for _, text in ANSWER[:cut])


@given(st.integers(1, len(ANSWER)))
def test_the_text_goes_behind_the_messages_as_it_was_said(cut: int) -> None:
    """Escapes and characters of several bytes arrive as they were."""
    one = broken(cut, max_completion_tokens=20, max_tokens=3)
    body = json.loads(by_text(one, SPEC))
    assert body["messages"] == [*ASK, {"role": "assistant", "content": "".join(text for _, text in ANSWER[:cut])}]
    assert (body["max_completion_tokens"], body["continue_final_message"]) == (20 - cut, True)


@pytest.mark.parametrize("prompt", ["once ", ["once "]])
def test_a_completions_text_goes_behind_its_prompt(prompt: str | list[str]) -> None:
    """One text, be it in a list; a completion has 16 tokens where the client says nothing."""
    body = json.loads(by_text(broken(5, COMPLETIONS_PATH, prompt=prompt), SPEC))
    assert (body["prompt"], body["max_tokens"]) == ("once " + "".join(text for _, text in ANSWER[:5]), 11)


def test_without_a_bound_the_rest_may_fill_the_pool() -> None:
    """A chat goes on as far as the next pool's context reaches, never as short as a completion's default."""
    assert json.loads(by_tokens(broken(2), SPEC))["max_tokens"] == SPEC.max_model_len - len(PROMPT_IDS) - 2
    assert "max_tokens" not in json.loads(by_text(broken(2), SPEC))
    assert json.loads(by_tokens(broken(2, max_tokens=5000), SPEC))["max_tokens"] == SPEC.max_model_len - 5


def test_other_engines_are_not_asked_for_token_ids() -> None:
    """A server that is no vLLM may refuse a field that it does not know."""
    assert "return_token_ids" not in json.loads(by_text(broken(2), replace(SPEC, engine="other")))
    assert json.loads(by_text(broken(2), SPEC))["return_token_ids"] is True


def test_what_is_left_is_what_a_pool_must_hold() -> None:
    """The answer so far is prompt now; the bound shrinks, and at least one token is expected."""
    left = needs_after(broken(6, max_tokens=10), Continues("tiny", True))
    assert (left.prompt_tokens, left.output_bound) == (len(PROMPT_IDS) + 6, 4)
    assert 1 <= left.expected_output_tokens <= 4
    assert left.continues == Continues("tiny", True)


@pytest.mark.parametrize(
    ("one", "completion_tokens", "expected"),
    [
        (broken(4), 4, Continues("tiny", True)),
        (broken(4), None, Continues("tiny", True)),
        (broken(4), 5, Continues(None, True)),  # the engine counted a token that it did not name
        (broken(4, COMPLETIONS_PATH, prompt=[1, 2, 3]), 4, Continues("tiny", False)),
        (broken(4, continue_final_message=True, add_generation_prompt=False), 4, Continues("tiny", False)),
        (broken(4, messages=[*ASK, {"role": "assistant", "content": "a"}]), 4, Continues("tiny", False)),
    ],
)
def test_the_ways_there_are(one: Broken, completion_tokens: int | None, expected: Continues) -> None:
    """By token ids where all of them are known, by text where there is a place for it."""
    assert ways(one, completion_tokens) == expected


def test_an_engine_without_token_ids_leaves_only_the_text() -> None:
    """As before vLLM 0.10.2."""
    one = broken(0)
    for text in ("a", "b"):
        data = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()
        one.transcript.note(chunk_of(data), data)
    assert ways(one, 2) == Continues(None, True)


def test_half_a_character_is_not_sent_as_text() -> None:
    """An engine that cuts UTF-8 between two frames: by token ids it goes on, as text it would be no JSON."""
    one = broken(2)
    for half, ids in ((b"\xc3", b"[5]"), (b"\xbc", b"[6]")):
        data = b'{"choices":[{"index":0,"delta":{"content":"%b"},"token_ids":%b}]}' % (half, ids)
        one.transcript.note(chunk_of(data), data)
        whole = half == b"\xbc"
        assert ways(one, None) == Continues("tiny", whole)
        assert one.transcript.said == ("Grüü" if whole else None)


@pytest.mark.parametrize("ids", ["[-1]", '["x"]', "[4294967296]", "7"])
def test_what_is_no_token_id_leaves_only_the_text(ids: str) -> None:
    """Whatever an engine puts there, the stream that runs is not disturbed by it."""
    one = broken(2)
    data = f'{{"choices":[{{"index":0,"delta":{{"content":"a"}},"token_ids":{ids}}}]}}'.encode()
    one.transcript.note(chunk_of(data), data)
    assert ways(one, 2) == Continues(None, True)


@pytest.mark.parametrize(
    "fields",
    [{"stop": 3}, {"min_tokens": "x"}, {"use_beam_search": True}, {"guided_json": {}}, {"n": 3}],
)
def test_what_ties_an_answer_to_its_beginning(fields: dict[str, Any]) -> None:
    """Not one plain text, or limits that no engine reads."""
    assert wanted(**fields) is None


@pytest.mark.parametrize("fields", [{"logprobs": False}, {"echo": None}, {"n": 1}, {"stop": None}, {"tools": []}])
def test_what_is_switched_off_ties_nothing(fields: dict[str, Any]) -> None:
    """Clients that spell out the defaults are served like those that don't."""
    assert wanted(**fields) is not None


@pytest.mark.parametrize(
    ("whole", "said", "expected"),
    [
        ("one two", "one ", "two"),
        ("one two", "one two", ""),
        ("one two", " one t", "wo"),  # the decoder dropped the blank at the beginning
        ("one two", "two ", None),
    ],
)
def test_text_that_was_kept_back_is_found(whole: str, said: str, expected: str | None) -> None:
    """It is what follows the text that was sent; where that does not fit, nothing is made up."""
    assert unsent_of(whole, said) == expected


@given(st.data())
def test_a_transcript_begun_anew_knows_what_its_ids_cover(data: st.DataObject) -> None:
    """After a continuation by text, ids and the text in them begin where the next pool began."""
    cut = data.draw(st.integers(1, len(ANSWER)))
    written = transcript(cut)
    said = written.said or ""
    written.begin_anew("other")
    assert (written.said, written.said_in_ids, list(written.ids), written.prompt_tokens) == (said, "", [], 0)
    for one in frames(True, [7, 8], ANSWER, 1000)[1:3]:
        chunk = chunk_of(one.removeprefix(b"data: ").strip())
        written.add(chunk, chunk.text)
    assert written.said_in_ids == TEXT[: len("Grü")]
    assert written.said == said + "Grü"
    assert not written.has_all_ids(2)  # the prompt's ids did not come
