"""Prompts as token ids: the chat template, images, and the forms that `/v1/completions` takes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pools.simulator import errors
from pools.simulator.errors import EngineError
from pools.simulator.text import END_OF_TEXT, TURN_CLOSES, tokenize, tokenize_opening, tokenize_turn
from pools.spec import Feature, PoolSpec

IMAGE_TOKENS_UNSEEN = 1024  # an image whose size the request does not tell
_PNG_HEADER = 24  # bytes: signature, IHDR length and name, width, height


def chat_prompt(spec: PoolSpec, messages: list[Any], *, goes_on: bool = False) -> tuple[int, ...]:
    """Token ids of a conversation under the chat template; with `goes_on` its last message is left open, to be
    finished. Raises EngineError for an image to a text model.
    """
    ids: list[int] = []
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise errors.wrong_type(f"messages.{place}", "dict_type", "dictionary", "<not a message>")
        text, images = _content(spec, message.get("content"))
        ids += [END_OF_TEXT] * images
        ids += tokenize_turn(str(message.get("role", "user")), text)
    return tuple(ids[:-TURN_CLOSES]) if goes_on else (*ids, *tokenize_opening())


def completion_prompts(prompt: object) -> tuple[tuple[tuple[int, ...], ...], bool]:
    """A completion's prompts as token ids, and whether they came as ids. Raises EngineError."""
    many = prompt if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else [prompt]
    texts = [one for one in many if isinstance(one, str) and one]
    if len(texts) == len(many):
        return tuple(tuple(tokenize(text)) for text in texts), False
    arrays = [one for one in many if isinstance(one, list) and one and all(isinstance(token, int) for token in one)]
    if len(arrays) == len(many):
        return tuple(tuple(array) for array in arrays), True
    raise errors.wrong_type("prompt", "string_type", "string", "<not a prompt>")


def _content(spec: PoolSpec, content: object) -> tuple[str, int]:
    """The text of a message and the tokens of its images."""
    if not isinstance(content, list):
        return (content if isinstance(content, str) else ""), 0
    texts: list[str] = []
    image_tokens = 0
    for part in content:
        if not isinstance(part, Mapping):
            continue
        if part.get("type") == "image_url":
            image_tokens += _image_tokens(spec, part.get("image_url"))
        else:
            texts.append(str(part.get("text", "")))
    return "\n".join(texts), image_tokens


def _image_tokens(spec: PoolSpec, image: object) -> int:
    """One token for each patch of `image_patch` pixels a side, up to the model's maximum."""
    if Feature.VISION not in spec.features:
        raise EngineError(400, f"{spec.served_model_name} is not a multimodal model")
    most = spec.model.image_tokens_max or IMAGE_TOKENS_UNSEEN
    size = _png_size(str(image.get("url", ""))) if isinstance(image, Mapping) else None
    if size is None or not spec.model.image_patch:
        return min(most, IMAGE_TOKENS_UNSEEN)
    width, height = size
    return min(most, max(1, width // spec.model.image_patch) * max(1, height // spec.model.image_patch))


def _png_size(url: str) -> tuple[int, int] | None:
    """Width and height from the header of a PNG in a data URL; None for anything else."""
    head, _, data = url.partition(";base64,")
    if head != "data:image/png":
        return None
    try:
        header = base64.b64decode(data[: _PNG_HEADER * 4 // 3], validate=True)
    except binascii.Error:
        return None
    if len(header) < _PNG_HEADER:
        return None
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
