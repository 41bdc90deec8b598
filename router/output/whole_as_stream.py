"""A whole answer as the frames of a stream, for clients that asked for one and get their answer in one piece.

A class with `buffer: true` asks its pools for whole answers where a JSON schema was asked for, since only those can be
judged while moving to another pool is still possible. Values are copied as bytes, so that numbers and escapes stay the
engine's own. `[DONE]` is left to whoever sends the frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from router.inbound.request import CHAT_PATH, Parsed

Fields = Mapping[str, msgspec.Raw]
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_HEAD: Final = ("id", "created", "model", "service_tier", "system_fingerprint")  # what each chunk repeats
_NOTHING: Final = frozenset({b"null", b"[]", b'""'})
_ASSISTANT: Final = msgspec.Raw(b'"assistant"')
_NULL: Final = msgspec.Raw(b"null")


def must_be_sayable(parsed: Parsed, body: bytes) -> None:
    """Whether a whole answer can go down as it was asked for, told while another pool can still be asked.

    Raises UnicodeDecodeError for one that is not UTF-8, and msgspec.DecodeError for one that makes no stream.
    """
    if not body.isascii():
        body.decode()
    if parsed.stream:
        for _ in frames_of(parsed, body):
            pass


def frames_of(parsed: Parsed, body: bytes) -> Iterator[bytes]:
    """Role, content and finish of each choice, one after the other, then usage where the client asked for it.

    Raises msgspec.DecodeError for what is no answer.
    """
    whole = _OBJECT.decode(body)
    chat = parsed.path == CHAT_PATH
    head: dict[str, Any] = {name: whole[name] for name in _HEAD if name in whole}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    for choice in _OBJECTS.decode(whole.get("choices", _NULL)):
        for piece in _chat_pieces(choice) if chat else [choice]:
            yield _frame({**head, "choices": [piece]})
    if parsed.wants_usage and _says(whole.get("usage")):
        yield _frame({**head, "choices": [], "usage": whole["usage"]})


def _chat_pieces(choice: Fields) -> Iterator[dict[str, Any]]:
    message = _OBJECT.decode(choice.get("message", _NULL))
    role = message.pop("role", _ASSISTANT)
    delta: dict[str, Any] = {name: value for name, value in message.items() if _says(value)}
    if "tool_calls" in delta:
        calls = _OBJECTS.decode(delta["tool_calls"])
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    index = choice.get("index", msgspec.Raw(b"0"))
    yield {"index": index, "delta": {"role": role, "content": ""}, "logprobs": None, "finish_reason": None}
    if delta:
        logprobs = choice.get("logprobs", _NULL)
        yield {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
    rest = {name: value for name, value in choice.items() if name not in ("message", "logprobs") and _says(value)}
    yield {**rest, "index": index, "delta": {}, "logprobs": None}


def _says(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) not in _NOTHING


def _frame(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
