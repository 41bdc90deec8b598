"""Bytes of an answer on their way down: the cost written in, what the client did not ask for taken out.

`usage.cost` is dollars as a JSON number, null when unknown, never 0 for work that was done.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pools.splice import replace_fields
from pricing.money import usd_number


class _Answer(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: dict[str, Any] | None = None
    text: str | None = None


class _Choices(msgspec.Struct):
    choices: list[_Choice] = []


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_CHOICES: Final = msgspec.json.Decoder(_Choices)


def usage_of(body: bytes) -> dict[str, Any] | None:
    """The `usage` object of an answer or chunk; None where it has none."""
    return _ANSWER.decode(body).usage


def with_cost(body: bytes, charge_nusd: int | None) -> bytes:
    """The same bytes with `usage.cost` set; unchanged where there is no usage to write it in."""
    usage = usage_of(body)
    if usage is None:
        return body
    usage["cost"] = None if charge_nusd is None else usd_number(charge_nusd)
    return replace_fields(body, {"usage": msgspec.json.encode(usage)})


def texts_of(body: bytes) -> list[tuple[str | None, str, bool]]:
    """Each choice of an answer as (finish reason, text, whether it calls tools)."""
    found = []
    for choice in _CHOICES.decode(body).choices:
        if choice.message is None:
            found.append((choice.finish_reason, choice.text or "", False))
        else:
            content = choice.message.get("content")
            text = content if isinstance(content, str) else ""
            calls = bool(choice.message.get("tool_calls") or choice.message.get("function_call"))
            found.append((choice.finish_reason, text, calls))
    return found
