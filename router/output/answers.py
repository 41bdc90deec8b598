"""Bytes of an answer on their way down: the cost written in, what the client did not ask for taken out.

`usage.cost` is dollars as a JSON number, null when unknown, never 0 for work that was done.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pools.wire.splice import replace_fields
from pricing.money import usd_number


class _Answer(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _RawAnswer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"")


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: dict[str, Any] | None = None
    text: str | None = None


class _Choices(msgspec.Struct):
    choices: list[_Choice] = []


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_RAW_USAGE: Final = msgspec.json.Decoder(_RawAnswer)
_CHOICES: Final = msgspec.json.Decoder(_Choices)


def usage_of(body: bytes) -> dict[str, Any] | None:
    """The `usage` object of an answer or chunk; None where it has none."""
    return _ANSWER.decode(body).usage


def with_cost(body: bytes, charge_nusd: int | None) -> bytes:
    """The same bytes with `usage.cost` set; unchanged where there is no usage to write it in."""
    usage = bytes(_RAW_USAGE.decode(body).usage)
    if not usage.startswith(b"{"):
        return body
    cost = b"null" if charge_nusd is None else msgspec.json.encode(usd_number(charge_nusd))
    priced = _priced(usage, cost)
    # Where these bytes stand once, that is the place of the top-level field: no need to look for its name.
    at = body.find(usage)
    if body.find(usage, at + 1) < 0:
        return body[:at] + priced + body[at + len(usage) :]
    return replace_fields(body, {"usage": priced})


def _priced(usage: bytes, cost: bytes) -> bytes:
    """A usage object with its cost first."""
    if b'"cost"' in usage or not usage.startswith(b'{"'):
        return replace_fields(usage, {"cost": cost})
    return b'{"cost":' + cost + b"," + usage[1:]


def texts_of(body: bytes) -> list[tuple[str | None, str, bool]]:
    """Each choice of an answer as (finish reason, text or refusal, whether it calls tools)."""
    found = []
    for choice in _CHOICES.decode(body).choices:
        if choice.message is None:
            found.append((choice.finish_reason, choice.text or "", False))
        else:
            content = choice.message.get("content") or choice.message.get("refusal")
            text = content if isinstance(content, str) else ""
            calls = bool(choice.message.get("tool_calls") or choice.message.get("function_call"))
            found.append((choice.finish_reason, text, calls))
    return found
