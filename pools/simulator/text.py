"""Pseudo-text: a tokenizer and a "model" whose next token is a pure function of all tokens before it.

That is all it takes for continuation by token ids to be exact, as it is with greedy decoding on a real engine: the
state is a rolling hash over prompt and output, so a prompt that ends in the first k tokens of an answer is answered
with the rest of it. Pools that serve the same model give the same answers; a request's `seed` gives others.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MEAN_OUTPUT_TOKENS = 200  # the end-of-text token comes with this mean (geometric) where the client sets no length
_MASK = 2**64 - 1
_MULTIPLIER = 0x9E3779B97F4A7C15  # Knuth's multiplicative hashing constant, 2^64 / golden ratio
_WORDS = re.compile(r" ?\w{1,5}|[^\w\s]|\s")  # about four characters a token in English
_CONSONANTS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "sh", "th")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ee", "ou")
_FIRST_WORD_ID = 3  # 0 to 2 are the special tokens of the chat template
END_OF_TEXT, TURN_BEGINS, TURN_ENDS = range(_FIRST_WORD_ID)
TURN_CLOSES = 2  # tokens behind a turn's text: its end and a line break


def _vocabulary() -> tuple[str, ...]:
    """2,048 syllables with a space before them, punctuation every now and then."""
    syllables = [a + b + c for a in _CONSONANTS for b in _VOWELS for c in _CONSONANTS]
    words = [f" {syllable}" for syllable in syllables]
    words[::40] = ["."] * len(words[::40])
    words[7::60] = [","] * len(words[7::60])
    return tuple(words)


PIECES = _vocabulary()


def tokenize(text: str) -> list[int]:
    """Token ids of a text: one for each run of up to five letters, mark or blank. JSON may hold half a character."""
    pieces = (piece.encode(errors="surrogatepass") for piece in _WORDS.findall(text))
    return [_FIRST_WORD_ID + zlib.crc32(piece) % len(PIECES) for piece in pieces]


def tokenize_turn(role: str, text: str) -> list[int]:
    """One message inside the chat template's marks."""
    return [TURN_BEGINS, *tokenize(role), *tokenize("\n"), *tokenize(text), TURN_ENDS, *tokenize("\n")]


def tokenize_opening() -> list[int]:
    """What the template adds for the answer to begin."""
    return [TURN_BEGINS, *tokenize("assistant"), *tokenize("\n")]


def tokens_said(prompt: Sequence[int]) -> int:
    """How many tokens of an answer under way a prompt ends with: those behind the last opening."""
    if TURN_BEGINS not in prompt:
        return 0
    opening = tokenize_opening()
    said = list(prompt[-1 - prompt[::-1].index(TURN_BEGINS) :])
    return len(said) - len(opening) if said[: len(opening)] == opening else 0


@dataclass(frozen=True, slots=True)
class Output:
    """One choice's answer: token ids, the text of each, and why it ended."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None

    def text(self, begin: int = 0, end: int | None = None) -> str:
        return "".join(self.pieces[begin:end])


def is_word(token: int) -> bool:
    """Whether a token has a text of its own."""
    return _FIRST_WORD_ID <= token < _FIRST_WORD_ID + len(PIECES)


def text_of(ids: Iterable[int]) -> str:
    """What generated tokens read."""
    return "".join(PIECES[token - _FIRST_WORD_ID] for token in ids)


def _absorb(state: int, token: int) -> int:
    state = ((state ^ token) * _MULTIPLIER) & _MASK
    return state ^ (state >> 29)


def prompt_state(ids: Iterable[int], model: str, seed: int) -> int:
    """The hash over a prompt from which its answer follows."""
    state = (zlib.crc32(model.encode()) << 32) ^ (seed & _MASK)
    for token in ids:
        state = _absorb(state, token)
    return state


def generate(
    state: int,
    limit: int,
    *,
    exactly: int | None,
    stops: tuple[str, ...],
    stops_included: bool = False,
    min_tokens: int = 0,
) -> Output:
    """The answer after a prompt, at most `limit` (at least 1) tokens long.

    `exactly` asks for a length and is cut by `limit`; None draws the end of the text, token by token, so that a
    continued answer ends where the unbroken one would have. Stop strings are cut off and end it, as vLLM does.
    """
    ids: list[int] = []
    finish_reason = "length"
    count = limit if exactly is None else min(limit, exactly)
    while len(ids) < count:
        if exactly is None and state % MEAN_OUTPUT_TOKENS == 0 and len(ids) >= max(1, min_tokens):
            finish_reason = "stop"
            break
        word = (state >> 32) % len(PIECES)
        ids.append(_FIRST_WORD_ID + word)
        state = _absorb(state, _FIRST_WORD_ID + word)
    if exactly is not None and exactly < limit:
        finish_reason = "stop"
    output = Output(tuple(ids), tuple(PIECES[token - _FIRST_WORD_ID] for token in ids), finish_reason)
    return cut_at_stop(output, stops, included=stops_included) if stops else output


def spell(text: str, limit: int) -> Output:
    """A given text (JSON, a tool call's arguments) as an answer, cut by `limit` with finish reason `length`."""
    pieces = tuple(_WORDS.findall(text))
    finish_reason = "length" if len(pieces) > limit else "stop"
    return Output(tuple(tokenize(text)[:limit]), pieces[:limit], finish_reason)


def cut_at_stop(output: Output, stops: tuple[str, ...], *, included: bool) -> Output:
    """End an answer with the token that completes a stop string, its text before the string or, `included`, after it.

    Where the string is to be cut off, the text comes later than its tokens: as many characters as the longest string
    could still need are kept back until the end, as vLLM does it.
    """
    text = output.text()
    hits = [(text.index(stop) + len(stop), place, stop) for place, stop in enumerate(stops) if stop in text]
    end, _, stop = min(hits) if hits else (len(text), 0, None)
    shown = end - len(stop) if stop is not None and not included else end
    kept_back = 0 if included else max(map(len, stops)) - 1
    pieces: list[str] = []
    length = sent = 0
    for piece in output.pieces:
        length += len(piece)
        until = max(sent, min(shown, length - kept_back))
        pieces.append(text[sent:until])
        sent = until
        if stop is not None and length >= end:
            break
    if pieces:
        pieces[-1] += text[sent:shown]
    finish_reason = output.finish_reason if stop is None else "stop"
    return Output(output.ids[: len(pieces)], tuple(pieces), finish_reason, stop)
