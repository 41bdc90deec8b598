"""An engine's error object, whatever its version's shape, as one value.

| shape | who sends it |
|---|---|
| `{"error": {"message", "type", "param", "code"}}` | vLLM from 0.10.1 (recorded: 0.28.0, 0.32.0), OpenAI |
| `{"object": "error", "message", "type", "param", "code"}` | vLLM up to 0.10.0 (from source) |
| `{"error": "Unauthorized"}` | vLLM's API key check (from source) |
| `{"detail": "Not Found"}` | FastAPI, for a path or method it does not have (recorded) |
| `{"detail": [{…}]}` | FastAPI, for a body that does not fit (from source) |
"""

from __future__ import annotations

from typing import Any

import msgspec


class EngineError(msgspec.Struct, frozen=True):
    """`code` is the HTTP status that the error stands for, None where it names none.

    `message` may repeat what the client sent: it is matched, and passed on to that client, but never logged.
    `by_engine` is True for the two full shapes: something that speaks the OpenAI protocol answered, not a proxy.
    """

    message: str
    type: str = ""
    param: str = ""
    code: int | None = None
    by_engine: bool = False


def parse_error(body: bytes) -> EngineError | None:
    """Read an error body or frame; None where there is no error object in it (HTML, plain text, an answer)."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    nested = found.get("error")
    if isinstance(nested, dict):
        return _full(nested)
    if isinstance(nested, str):
        return EngineError(nested)
    if found.get("object") == "error":
        return _full(found)
    return EngineError(_text(found["detail"])) if "detail" in found else None


def _full(fields: dict[str, Any]) -> EngineError:
    return EngineError(
        message=_text(fields.get("message")),
        type=_text(fields.get("type")),
        param=_text(fields.get("param")),
        code=_status(fields.get("code")),
        by_engine="message" in fields,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _status(value: object) -> int | None:
    """A status from 100 to 599; some gateways write it as text, others put a word there."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 100 <= value <= 599 else None
