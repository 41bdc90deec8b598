"""The simple form that teams had before: `/generate` takes a prompt and an optional schema, and answers with text.

{"prompt": "...", "schema": {...}, "max_tokens": 512, "temperature": 0.3, "top_p": 0.95, "model": "chat:standard"}
{"text": "..." or the parsed object, "model": "...", "pool": "...", "usage": {...}, "request_id": "req_..."}
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from router.errors import ApiError
from router.output.answers import texts_of, usage_of
from router.serving.chain import Chain

DEFAULT_MODEL = "chat"


class GenerateBody(msgspec.Struct, forbid_unknown_fields=True):
    """`schema` None asks for free text. `model` is a class, class:tier, pool or alias."""

    prompt: str
    model: str = DEFAULT_MODEL
    schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None


def generate_body(body: bytes) -> bytes:
    """The chat request that a simple one stands for. Raises ApiError `invalid_json` or `invalid_value`."""
    try:
        simple = msgspec.json.decode(body, type=GenerateBody)
    except msgspec.ValidationError as error:
        raise ApiError("invalid_value", f"{error}; /generate takes {_fields()}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("invalid_json", f"the body is not valid JSON: {error}; send one JSON object") from None
    chat: dict[str, Any] = {"model": simple.model, "messages": [{"role": "user", "content": simple.prompt}]}
    for name in ("max_tokens", "temperature", "top_p"):
        value = getattr(simple, name)
        if value is not None:
            chat[name] = value
    if simple.schema is not None:
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": simple.schema},
        }
    return msgspec.json.encode(chat)


def generate_answer(chain: Chain, body: bytes) -> bytes:
    """The simple answer; with a schema, `text` is the parsed object."""
    [(finish_reason, text, _), *_] = texts_of(body)
    return msgspec.json.encode(
        {
            "text": text if chain.parsed.json_schema is None else _parsed(text),
            "finish_reason": finish_reason,
            "model": chain.policy.pools[chain.pool].model.id if chain.pool else None,
            "pool": chain.pool,
            "tier": chain.tier_served,
            "usage": usage_of(body),
            "request_id": chain.request_id,
        }
    )


def _parsed(text: str) -> Any:
    """JSON cut off at the client's own `max_tokens` stays text: it was paid for, and may be of use."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fields() -> str:
    return ", ".join(field.name for field in msgspec.structs.fields(GenerateBody))
