"""Pseudo-text: deterministic, continued exactly by token ids, cut at stop strings as vLLM cuts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pools.simulator.text import (
    Output,
    cut_at_stop,
    generate,
    prompt_state,
    spell,
    tokenize,
    tokenize_opening,
    tokenize_turn,
    tokens_said,
)

IDS = st.lists(st.integers(0, 2000), min_size=1, max_size=50)


def answer(prompt: list[int], limit: int, *, exactly: int | None = None, seed: int = 0) -> Output:
    return generate(prompt_state(prompt, "model", seed), limit, exactly=exactly, stops=())


@given(IDS, st.integers(2, 400), st.data())
def test_an_answer_continues_exactly_after_any_cut(prompt: list[int], limit: int, data: st.DataObject) -> None:
    """Prompt + the first k tokens are answered with the rest, and end for the same reason."""
    whole = answer(prompt, limit)
    if len(whole.ids) < 2:
        return
    cut = data.draw(st.integers(1, len(whole.ids) - 1))
    rest = answer([*prompt, *whole.ids[:cut]], limit - cut)
    assert whole.ids == whole.ids[:cut] + rest.ids
    assert rest.finish_reason == whole.finish_reason


@given(st.text())
def test_tokens_cover_the_text(text: str) -> None:
    """Spelling a text out loses no character, and gives one id for each piece."""
    output = spell(text, 10**6)
    assert output.text() == text
    assert list(output.ids) == tokenize(text)


def test_another_seed_or_model_says_something_else() -> None:
    """The same prompt gets the same answer, unless seed or model differ."""
    assert answer([1, 2], 20, exactly=20) == answer([1, 2], 20, exactly=20)
    assert answer([1, 2], 20, exactly=20, seed=1) != answer([1, 2], 20, exactly=20)
    assert prompt_state([1, 2], "other", 0) != prompt_state([1, 2], "model", 0)


def test_a_length_that_was_asked_for_comes_out() -> None:
    """Below the limit it ends by itself, at the limit by length."""
    assert (len(answer([1], 50, exactly=30).ids), answer([1], 50, exactly=30).finish_reason) == (30, "stop")
    assert (len(answer([1], 50, exactly=50).ids), answer([1], 50, exactly=50).finish_reason) == (50, "length")
    assert (len(answer([1], 50, exactly=90).ids), answer([1], 50, exactly=90).finish_reason) == (50, "length")


def test_drawn_lengths_have_the_stated_mean() -> None:
    """Without a length the end comes with a mean of about 200 tokens."""
    lengths = [len(answer([prompt], 5000).ids) for prompt in range(400)]
    assert 170 < sum(lengths) / len(lengths) < 230


@given(
    st.lists(st.sampled_from(["ab", "c", " de", "f"]), min_size=1, max_size=12),
    st.text("abcdef ", min_size=1),
    st.booleans(),
)
def test_a_stop_string_ends_the_text(pieces: list[str], stop: str, included: bool) -> None:
    """The text ends right before the first stop string, or behind it; its tokens count, later ones don't exist."""
    output = Output(tuple(range(len(pieces))), tuple(pieces), "length")
    cut = cut_at_stop(output, (stop,), included=included)
    before, found, _ = output.text().partition(stop)
    assert cut.text() == before + (stop if included and found else "")
    assert (cut.finish_reason, cut.stop_reason) == (("stop", stop) if found else ("length", None))
    assert len(cut.ids) == len(cut.pieces)
    assert len(output.text(0, len(cut.ids))) >= len(before + found)


def test_text_that_a_stop_string_could_take_away_comes_later() -> None:
    """All but the last characters, as many as the longest string has less one; at the end, the rest."""
    output = Output((1, 2, 3), ("abc", "def", "g"), "length")
    assert cut_at_stop(output, ("x", "yyy"), included=False).pieces == ("a", "bcd", "efg")
    assert cut_at_stop(output, ("x", "yyy"), included=True).pieces == ("abc", "def", "g")


def test_an_answer_under_way_is_counted_from_its_opening() -> None:
    """Behind a whole prompt nothing was said yet; what follows the template's opening was."""
    prompt = [*tokenize_turn("assistant", "earlier words"), *tokenize_turn("user", "more"), *tokenize_opening()]
    assert tokens_said(prompt) == 0
    assert tokens_said([*prompt, 7, 8, 9]) == 3
    assert tokens_said([7, 8, 9]) == 0
