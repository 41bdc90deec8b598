"""The parameters of a query, read in one way by every route that has some: known names, each as often as it may come.

A filter that nobody applies shows too much, and a value that nobody reads answers another question than was asked. So
unknown names are refused, and so are two values where one is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request

from pricing.nearest import nearest
from router.errors import ApiError


def check_parameters(request: Request, single: Sequence[str], lists: Sequence[str] = ()) -> None:
    """`single` come once at most; `lists` any number of times, also written `name[]`.

    Raises ApiError `invalid_value`, with the valid names, or with what to do with several values.
    """
    names = (*lists, *single)
    for name in dict.fromkeys(request.query_params.keys()):
        plain = name.removesuffix("[]")
        if plain not in names:
            text = f"there is no parameter '{plain}' here{nearest(plain, names)}; there are: {', '.join(names)}"
            raise ApiError("invalid_value", text, param=plain)
        if plain in single and (name != plain or len(request.query_params.getlist(name)) > 1):
            raise ApiError("invalid_value", f"'{plain}' takes one value; name it once, as {plain}=…", param=plain)


def several(request: Request, name: str) -> tuple[str, ...]:
    """A parameter that may come several times; OpenAI's clients write `group_by[]`."""
    return tuple(request.query_params.getlist(name) + request.query_params.getlist(f"{name}[]"))


def several_schema(*names: str) -> dict[str, Any]:
    """For the schema of the routes: parameters that may come several times."""
    schema = {"type": "array", "items": {"type": "string"}}
    return {"parameters": [{"name": name, "in": "query", "required": False, "schema": schema} for name in names]}
