"""A file's data against a pydantic model: every problem at once, each as "path:line: what is wrong; what to do"."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pricing.errors import FileProblem
from pricing.files.document import Document
from pricing.files.parts import Steps
from pricing.nearest import nearest

M = TypeVar("M", bound=BaseModel)
_ABSENT: Final = ("missing", "extra_forbidden")
_SHOULD_BE: Final = "Input should be "
_NO_TEXT: Final = (bool, int, float, date)  # what YAML makes of words without quotes


def validate(document: Document, model: type[M], where: Sequence[str | int] = (), data: Any = None) -> M:
    """Check a document, or the part of it at `where`, against a model. Raises FileProblem with every problem."""
    part = document.data if data is None else data
    if part is None:
        raise FileProblem([document.problem(where, "this file is empty; see docs/policy-files.md for its keys")])
    try:
        return model.model_validate(part)
    except ValidationError as error:
        problems = [_say(document, model, tuple(where), detail) for detail in _once(part, error.errors())]
        raise FileProblem(list(dict.fromkeys(problems))) from None


def _once(data: Any, details: Sequence[Any]) -> list[Any]:
    """Errors, one for each mistake: pydantic has one for each kind that a value may be of and is not.

    Where one kind fits but for something inside of it, that alone is wrong.
    """
    said: dict[tuple[Steps, int], Any] = {}
    places = [_in_data(data, detail["loc"]) for detail in details]
    for number, (place, detail) in enumerate(zip(places, details, strict=True)):
        if len(place) == len(detail["loc"]) or detail["type"] in _ABSENT:
            said[place, number] = detail
        elif not any(other[: len(place)] == place != other for other in places):
            first = said.setdefault((place, -1), detail)
            if first is not detail:
                said[place, -1] = {**first, "msg": f"{first['msg']} or {detail['msg'].removeprefix(_SHOULD_BE)}"}
    return list(said.values())


def _in_data(data: Any, location: Steps) -> Steps:
    """A location without the names of kinds, which pydantic puts into it and no data has."""
    steps: list[str | int] = []
    for step in location:
        there = step in data if isinstance(data, Mapping) else isinstance(data, list) and isinstance(step, int)
        if there:
            data = data[step]
        if there or step == "[key]":
            steps.append(step)
    return tuple(steps)


def _say(document: Document, model: type[BaseModel], base: Steps, detail: Any) -> str:
    steps: Steps = tuple(step for step in detail["loc"] if step != "[key]")
    where = _known_steps(document, base, steps, last=detail["type"] in _ABSENT)
    name = ".".join(str(step) for step in (*base, *where))
    if detail["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(model, where[:-1]))
        hint = nearest(str(where[-1]), allowed) or (f"; known keys: {', '.join(allowed)}" if allowed else "")
        return document.problem((*base, *where), f"unknown key '{where[-1]}'{hint}")
    if detail["type"] == "missing":
        return document.problem((*base, *where), f"'{name}' is missing; add it")
    shown_name = f"'{name}'" if name else "this file"
    if detail["type"] in ("model_type", "dict_type"):
        return document.problem((*base, *where), f"{shown_name} must be a table, `key: value` on each line")
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    shown = detail.get("input")
    got = f", not {shown!r}" if isinstance(shown, str | int | float) and repr(shown) not in message else ""
    if detail["type"] == "string_type" and isinstance(shown, _NO_TEXT):
        got = f", not {json.dumps(shown, default=str)}; put it in quotes"
    return document.problem((*base, *where), f"{shown_name}: {message[:1].lower()}{message[1:]}{got}")


def _known_steps(document: Document, base: Steps, steps: Steps, *, last: bool) -> Steps:
    """Drop the names of union members, which pydantic puts into a location and no file has; `last` keeps the last step,
    of a key that the file lacks or should not have.
    """
    kept: list[str | int] = []
    for index, step in enumerate(steps):
        if (*base, *kept, step) in document.lines or (last and index == len(steps) - 1):
            kept.append(step)
    return tuple(kept)


def _fields_at(model: Any, where: Steps) -> set[str]:
    """Names that a model allows at a location inside it."""
    members = list(_members(model))
    for step in where:
        members = [inner for member in members for inner in _step_into(member, step)]
    return {
        info.alias or name
        for member in members
        if isinstance(member, type) and issubclass(member, BaseModel)
        for name, info in member.model_fields.items()
    }


def _members(annotation: Any) -> Iterable[Any]:
    """An annotation without Optional, Union and Annotated around it."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _members(argument)
    elif origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    else:
        yield annotation


def _step_into(member: Any, step: str | int) -> Iterable[Any]:
    if isinstance(member, type) and issubclass(member, BaseModel):
        for name, info in member.model_fields.items():
            if step in (name, info.alias):
                yield from _members(info.annotation)
        return
    arguments = typing.get_args(member)
    if arguments:
        yield from _members(arguments[-1])
