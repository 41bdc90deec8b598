"""What the clients send: OpenAI chat requests of recorded length, with texts of a public benchmark.

Beside OpenAI's fields there is `sim_output_tokens`, which an engine ignores and a simulated pool obeys
(`docs/simulator.md`): answers are as long as they were when the trace was recorded.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import random
import struct
import zlib
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from router.demo.plan import PlannedRequest

PROMPTS: Final = "routellm_prompts.csv.gz"
CHARS_PER_TOKEN: Final = 3.6
"""Of the shipped prompts under the simulated pools' tokenizer: 134,505 characters in 37,378 tokens."""

TEMPLATE_TOKENS: Final = 10
"""The chat template around one user message."""

IMAGE_PIXELS: Final = (640, 480)
IMAGE_TOKENS: Final = 300
"""Of such an image for Qwen3-VL, one for each 32 × 32 pixels."""


class Bodies:
    """Makes request bodies; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._prompts = shipped_prompts()
        self._seed = seed

    def body(self, planned: PlannedRequest) -> bytes:
        """The body of one request, about `input_tokens` long."""
        document: dict[str, Any] = {
            "model": planned.model,
            "messages": [{"role": "user", "content": self._content(planned)}],
            "temperature": 0,
            "sim_output_tokens": planned.output_tokens,
        }
        if planned.max_tokens is not None:
            document["max_tokens"] = planned.max_tokens
        if planned.stream:
            document |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(document)

    def _content(self, planned: PlannedRequest) -> str | list[dict[str, Any]]:
        tokens = planned.input_tokens - TEMPLATE_TOKENS
        if planned.request_class != "vision":
            return self._text(planned.number, tokens)
        text = self._text(planned.number, tokens - IMAGE_TOKENS)
        return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": image_url()}}]

    def _text(self, number: int, tokens: int) -> str:
        """Prompts one after another, begun at a place of the request's own, cut at a length."""
        length = max(1, round(tokens * CHARS_PER_TOKEN))
        start = random.Random(f"{self._seed}/{number}").randrange(len(self._prompts))
        parts: list[str] = []
        while length > 0:
            prompt = self._prompts[(start + len(parts)) % len(self._prompts)]
            parts.append(prompt[:length])
            length -= len(prompt) + 1
        return "\n".join(parts)


@cache
def shipped_prompts() -> tuple[str, ...]:
    """Prompts of MMLU and GSM8K, see data/SOURCE.md."""
    packed = (resources.files("router.demo") / "data" / PROMPTS).read_bytes()
    reader = csv.DictReader(io.StringIO(gzip.decompress(packed).decode()))
    return tuple(row["prompt"] for row in reader)


@cache
def image_url() -> str:
    """A grey picture as a PNG in a data URL."""
    width, height = IMAGE_PIXELS
    rows = (b"\0" + b"\x80" * width) * height  # each row begins with its filter, 0 for none
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, greyscale
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
