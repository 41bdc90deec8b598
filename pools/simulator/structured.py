"""Answers whose form the request fixes: JSON by schema, and calls of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pools.simulator.errors import EngineError
from pools.simulator.schema import BadSchema, example
from pools.spec import Feature, PoolSpec

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The function that an answer calls, and the schema of its arguments; the arguments are the answer's text."""

    name: str
    parameters: object


def tool_choice(spec: PoolSpec, body: Body, messages: list[Any]) -> ToolCall | None:
    """What the answer calls: the named tool, or the first one unless a tool has just answered. Raises EngineError."""
    tools = {str(item["name"]): item.get("parameters") for item in _functions(body)}
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if Feature.TOOLS not in spec.features:
        if choice == "required":
            raise EngineError(400, 'tool_choice="required" requires --tool-call-parser to be set')
        message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        raise EngineError(400, message)
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = str(function.get("name")) if isinstance(function, Mapping) else ""
        if name not in tools:
            raise EngineError(400, f"Tool '{name}' has not been passed in `tools`.")
        return ToolCall(name, tools[name])
    last = messages[-1]
    if choice == "auto" and isinstance(last, Mapping) and last.get("role") == "tool":
        return None
    name = next(iter(tools))
    return ToolCall(name, tools[name])


def structured_text(body: Body, tool: ToolCall | None) -> str | None:
    """The text that a tool, a choice or a schema asks for; None for free text. Raises EngineError.

    `guided_json` and its kin are ignored, as every vLLM since 0.12 does.
    """
    if tool is not None:
        return _json_for(tool.parameters or {"type": "object"})
    options = body.get("structured_outputs")
    if isinstance(options, Mapping) and options.get("choice"):
        return str(options["choice"][0])
    if isinstance(options, Mapping) and "json" in options:
        return _json_for(options["json"])
    wanted = body.get("response_format")
    if not isinstance(wanted, Mapping):
        return None
    if wanted.get("type") == "json_object":
        return '{"answer":"text"}'
    if wanted.get("type") != "json_schema":
        return None
    holder = wanted.get("json_schema")
    if not isinstance(holder, Mapping):
        message = (
            "When response_format type is 'json_schema', the 'json_schema' field must be provided."
            " (parameter=response_format)"
        )
        raise EngineError(400, message, param="response_format")
    return _json_for(holder.get("schema", {}))


def _json_for(schema: object) -> str:
    try:
        return json.dumps(example(schema), separators=(",", ":"), ensure_ascii=False)
    except BadSchema as error:
        raise EngineError(400, f"Grammar error: {error}") from None


def _functions(body: Body) -> list[Mapping[str, Any]]:
    tools = body.get("tools")
    items = [tool.get("function") for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    return [item for item in items if isinstance(item, Mapping) and isinstance(item.get("name"), str)]
