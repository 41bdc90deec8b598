"""The prompts of the official load: made from a seed and a size, the same on every machine, nobody's data.

Each begins with its own words, so that no engine's prefix cache answers for another's prefill. The words are short and
common: nearly every tokenizer of today has each of them, with the blank before it, as one token.
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

_COMMON: Final = (
    "the of and to in is it for on was are as with his they at be this from or had by not but what all were we when "
    "your can said there use an each which she do how their if will up other out many then them these so some her "
    "make like him into time has look two more go see no way could my than first been call who its now find long "
    "down day did get come made may part over new take only work know place year live me back give most very after"
)
WORDS: Final = tuple(_COMMON.split())


def prompt(seed: int, number: int, words: int) -> str:
    """The prompt of request `number`, at least one word long."""
    chosen = random.Random(f"{seed}/{number}").choices(WORDS, k=max(1, words))
    return " ".join(chosen)


def chat_body(model: str, text: str, output_tokens: int, *, exact_length: bool) -> bytes:
    """A streamed chat request of at most `output_tokens`.

    `exact_length` asks with `ignore_eos` for all of them, which vLLM knows and OpenAI's own API refuses.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if exact_length:
        body["ignore_eos"] = True
    return msgspec.json.encode(body)
