"""How many tokens a prompt is likely to have, from its bytes and its images' headers.

Text is counted as bytes of JSON divided by a ratio that is learnt per tokenizer from the `usage` of answers. To
tokenize would take about 200 µs a kilobyte and every model's vocabulary; where an estimate is too near a limit, the
engine's `/tokenize` is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pools.spec import ModelSpec
from pools.wire.images import ImageSize, size_in_data_url

PRIOR_BYTES_PER_TOKEN: Final = 4.0
PRIOR_TOKENS: Final = 500.0  # the weight of the prior: about as much as one prompt of this length
BYTES_PER_TOKEN: Final = (1.0, 8.0)  # clamp; text escaped as \\uXXXX has about 6, code and prose 3 to 5
KEPT: Final = 0.98  # of what was learnt before, at each observation
PRIOR_ERROR: Final = 0.25
ERROR_AT_LEAST: Final = 0.02
ERRORS_WIDE: Final = 2.0  # how many mean errors the range of an estimate spans to each side

_NOTHING: Final = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What counts of a body: bytes of text (messages, prompt, tools) and images, None for one of unknown size."""

    text_bytes: int
    images: tuple[ImageSize | None, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """Tokens expected, and the range they are likely in."""

    tokens: int
    low: int
    high: int


class _Part(msgspec.Struct):
    image_url: msgspec.Raw = _NOTHING


class _ImageUrl(msgspec.Struct):
    url: str


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NOTHING


class _Body(msgspec.Struct):
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    tools: msgspec.Raw = _NOTHING


_BODY: Final = msgspec.json.Decoder(_Body)
_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_PARTS: Final = msgspec.json.Decoder(list[_Part])
_IMAGE_URL: Final = msgspec.json.Decoder(_ImageUrl | str)


def prompt_of(body: bytes) -> Prompt:
    """Measure a chat or completion body. Raises msgspec.DecodeError where it is none."""
    fields = _BODY.decode(body)
    text_bytes = sum(len(memoryview(part)) for part in (fields.messages, fields.prompt, fields.tools))
    if b'"image_url"' not in body or fields.messages is _NOTHING:
        return Prompt(text_bytes)
    urls = _image_urls(fields.messages)
    return Prompt(text_bytes - sum(map(len, urls)), tuple(size_in_data_url(url) for url in urls))


def _image_urls(messages: msgspec.Raw) -> list[str]:
    urls = []
    for message in _MESSAGES.decode(messages):
        if memoryview(message.content)[:1].tobytes() != b"[":  # a text, or null beside tool calls
            continue
        for part in _PARTS.decode(message.content):
            if part.image_url is not _NOTHING:
                found = _IMAGE_URL.decode(part.image_url)
                urls.append(found if isinstance(found, str) else found.url)
    return urls


def image_tokens(model: ModelSpec, size: ImageSize | None) -> int:
    """Tokens of one image: one for each patch begun, at most the model's maximum, which an unknown size counts as."""
    if size is None or model.image_patch == 0:
        return model.image_tokens_max
    columns = -(-size.width // model.image_patch)
    rows = -(-size.height // model.image_patch)
    return min(columns * rows, model.image_tokens_max)


class _Ratio:
    """Bytes per token of one tokenizer: sums that fade, so that long prompts weigh more and old ones less."""

    def __init__(self) -> None:
        self._bytes = PRIOR_BYTES_PER_TOKEN * PRIOR_TOKENS
        self._tokens = PRIOR_TOKENS
        self.error = PRIOR_ERROR  # mean relative error of late

    @property
    def value(self) -> float:
        low, high = BYTES_PER_TOKEN
        return min(max(self._bytes / self._tokens, low), high)

    def learn(self, text_bytes: int, tokens: int) -> None:
        miss = abs(text_bytes / self.value / tokens - 1)
        self.error += (1 - KEPT) * (min(miss, 1.0) - self.error)
        self._bytes = KEPT * self._bytes + text_bytes
        self._tokens = KEPT * self._tokens + tokens


class TokenRatios:
    """Ratios by tokenizer, learnt from the usage of answers. Memory of one replica."""

    def __init__(self) -> None:
        self._ratios: dict[str, _Ratio] = {}

    def estimate(self, model: ModelSpec, prompt: Prompt) -> TokenEstimate:
        """Tokens of a prompt for this model, at least 1. Its images count exactly, the range is the text's."""
        ratio = self._ratios.get(model.tokenizer) or _Ratio()
        images = sum(image_tokens(model, size) for size in prompt.images)
        text = prompt.text_bytes / ratio.value
        spread = text * ERRORS_WIDE * max(ratio.error, ERROR_AT_LEAST)
        return TokenEstimate(
            tokens=max(1, round(text) + images),
            low=max(1, round(text - spread) + images),
            high=max(1, round(text + spread) + images),
        )

    def observe(self, model: ModelSpec, prompt: Prompt, prompt_tokens: int) -> None:
        """Learn from an answer's usage. A prompt with an image of unknown size teaches nothing about text."""
        tokens = prompt_tokens - sum(image_tokens(model, size) for size in prompt.images)
        if tokens > 0 and prompt.text_bytes > 0 and None not in prompt.images:
            self._ratios.setdefault(model.tokenizer, _Ratio()).learn(prompt.text_bytes, tokens)
