"""YAML files that people edit: read with line numbers, checked against a pydantic model, wrong with file:line.

Every problem of a file is reported at once, each as "path:line: what is wrong; what to do". Unknown keys get a
"did you mean"; repeated keys are refused, because YAML would keep the last one without a word.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq, CommentedSet
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from pricing.errors import FileProblem
from pricing.yamlnumbers import reader
from pricing.yamlparts import (
    TOO_DEEP,
    TOO_MANY,
    VALUES_AT_MOST,
    LongSection,
    NotByParts,
    Part,
    excess,
    long_sections,
    read_part,
)

KEPT_FILES: Final = 64  # policies of more files read each of them anew

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Document:
    """One file's plain data, which nobody may change, and the line of each key and item, counted from 1."""

    path: Path
    data: Any
    lines: Mapping[Path_, int]

    def place(self, where: Iterable[str | int] = ()) -> str:
        """The "path:line" of the closest place above `where` that the file has."""
        steps = tuple(where)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return f"{self.path}:{self.lines.get(steps, 1)}"

    def problem(self, where: Iterable[str | int], text: str) -> str:
        return f"{self.place(where)}: {text}"


class PartLines(Mapping[Path_, int]):
    """Lines of a file whose long sections were read entry by entry: each entry keeps its own, from its first line."""

    def __init__(self, rest: Mapping[Path_, int]) -> None:
        self._rest = rest
        self._parts: dict[Path_, tuple[int, str | int, Part]] = {}

    def add(self, where: Path_, at: int, own: str | int, part: Part) -> None:
        """The part at `where`, whose first line is `at`, from 0; in its own lines its first step is `own`."""
        self._parts[where] = (at, own, part)

    def __getitem__(self, steps: Path_) -> int:
        found = self._parts.get(steps[:2])
        if found is None:
            return self._rest[steps]
        at, own, part = found
        return at + part.lines[(own, *steps[2:])] + 1

    def __iter__(self) -> Iterator[Path_]:
        yield from self._rest
        for where, (_, _, part) in self._parts.items():
            yield from ((*where, *steps[1:]) for steps in part.lines)

    def __len__(self) -> int:
        return len(self._rest) + sum(len(part.lines) for _, _, part in self._parts.values())


_Read = tuple[bytes, Document | FileProblem]
_newest: Final[dict[Path, _Read]] = {}
"""What files said when they were last read, by a hash of their content: one command reads a file several times."""


def read_yaml(path: Path) -> Document:
    """Read one file. Raises FileProblem for a missing file, broken YAML, repeated keys or text that is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileProblem([f"{path}:1: cannot read this file: {error.strerror}"]) from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileProblem([f"{path}:{line}: cannot read this file: it is not UTF-8 text; save it as such"]) from None
    digest = hashlib.sha256(content).digest()
    known, found = _newest.pop(path, (b"", FileProblem([])))
    if known != digest:
        found = _outcome(text.replace("\r\n", "\n"), path)
    _newest[path] = (digest, found)
    if len(_newest) > KEPT_FILES:
        del _newest[next(iter(_newest))]
    if isinstance(found, FileProblem):
        raise FileProblem(found.problems)
    return found


def _outcome(text: str, path: Path) -> Document | FileProblem:
    try:
        return parse_yaml(text, path)
    except FileProblem as error:
        return error


def parse_yaml(text: str, path: Path) -> Document:
    """Parse a file's text. Raises FileProblem as `read_yaml` does."""
    rest, sections = long_sections(text)
    if sections:
        try:
            return _by_parts(rest, sections, path)
        except (NotByParts, FileProblem):
            pass  # the whole says what is wrong, and where
    return _whole(text, path)


def _by_parts(rest: str, sections: Sequence[LongSection], path: Path) -> Document:
    """Raises NotByParts or FileProblem where the text must be read as a whole."""
    document = _whole(rest, path)
    lines = PartLines(document.lines)
    for section in sections:
        if document.data.get(section.name, ()) is not None or document.lines[section.name,] != section.at + 1:
            raise NotByParts
        document.data[section.name] = _joined(section, lines)
    return Document(path, document.data, lines)


def _joined(section: LongSection, lines: PartLines) -> dict[Any, Any] | list[Any]:
    entries = [(at, _part(text)) for at, text in section.entries]
    keyed = isinstance(entries[0][1].data, dict)
    table: dict[Any, Any] = {}
    for number, (at, part) in enumerate(entries):
        if isinstance(part.data, dict) is not keyed:
            raise NotByParts
        own, value = next(iter(part.data.items())) if keyed else (0, part.data[0])
        key = own if keyed else number
        if key in table:
            raise NotByParts
        table[key] = value
        lines.add((section.name, key), at, own, part)
    return table if keyed else list(table.values())


def _part(text: str) -> Part:
    """An entry that libyaml does not take is read by itself, unless it may have to do with other entries."""
    try:
        return read_part(text)
    except NotByParts:
        if "&" in text or "*" in text:
            raise
    document = _whole(text, Path())
    if not isinstance(document.data, dict | list) or len(document.data) != 1:
        raise NotByParts
    return Part(document.data, {steps: line - 1 for steps, line in document.lines.items()})


def _whole(text: str, path: Path) -> Document:
    line, what = excess(text)
    if what is not None:
        raise FileProblem([f"{path}:{line}: {what}"])
    lines: dict[Path_, int] = {(): 1}
    try:
        data = _plain(reader().load(text), (), lines)
    except RecursionError:
        raise FileProblem([f"{path}:{line}: {TOO_DEEP}"]) from None
    except _Refused as error:
        raise FileProblem([f"{path}:{lines[error.where]}: {error.text}"]) from None
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FileProblem([f"{path}:{line}: {_repeated_key(error.problem)}; keep one of the two"]) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FileProblem([f"{path}:{line}: not valid YAML: {_first_line(error.problem or error.context)}"]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FileProblem([f"{path}:{line}: not valid YAML: {_first_line(str(error))}"]) from None
    except YAMLError as error:
        raise FileProblem([f"{path}:1: not valid YAML: {_first_line(str(error))}"]) from None
    return Document(path, data, lines)


def _repeated_key(text: str | None) -> str:
    """The key out of the parser's sentence, which also quotes both values: one of them may be a secret."""
    quoted = (text or "").split('"')
    return f"repeated key '{quoted[1]}'" if len(quoted) > 1 else "repeated key"


def _first_line(text: str | None) -> str:
    return (text or "cannot be parsed").strip().splitlines()[0]


class _Refused(Exception):
    """What YAML has and no file here may: a tag of its own, a key that is no text. Never leaves the reader of files."""

    def __init__(self, where: Path_, text: str) -> None:
        super().__init__(where)
        self.where = where
        self.text = text


def _plain(node: Any, where: Path_, lines: dict[Path_, int]) -> Any:
    tagged = getattr(getattr(node, "tag", None), "value", None) is not None
    if tagged or isinstance(node, CommentedOrderedMap | CommentedSet):  # !!omap, !!set
        raise _Refused(where, "a tag means nothing here; write the value alone")
    if len(lines) > VALUES_AT_MOST:  # few in the text, but aliases repeat them
        raise _Refused(where[:1], TOO_MANY)
    if isinstance(node, CommentedMap):
        plain: dict[Any, Any] = {}
        own = node.lc.data or ()
        for key, value in node.items():
            here = (*where, key)
            lines[here] = node.lc.key(key)[0] + 1 if key in own else lines[where]  # merged from elsewhere
            if not isinstance(key, str):
                raise _Refused(here, f"the key {json.dumps(key, default=str)} is no text; put it in quotes")
            plain[key] = _plain(value, here, lines)
        return plain
    if isinstance(node, CommentedSeq):
        items = []
        for index, value in enumerate(node):
            here = (*where, index)
            lines[here] = node.lc.item(index)[0] + 1
            items.append(_plain(value, here, lines))
        return items
    if isinstance(node, bool) or node is None:
        return node
    for plain_type in (int, float, str):
        if isinstance(node, plain_type):
            return plain_type(node)
    return node


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
    said: dict[tuple[Path_, int], Any] = {}
    places = [_in_data(data, detail["loc"]) for detail in details]
    for number, (place, detail) in enumerate(zip(places, details, strict=True)):
        if len(place) == len(detail["loc"]) or detail["type"] in _ABSENT:
            said[place, number] = detail
        elif not any(other[: len(place)] == place != other for other in places):
            first = said.setdefault((place, -1), detail)
            if first is not detail:
                said[place, -1] = {**first, "msg": f"{first['msg']} or {detail['msg'].removeprefix(_SHOULD_BE)}"}
    return list(said.values())


def _in_data(data: Any, location: Path_) -> Path_:
    """A location without the names of kinds, which pydantic puts into it and no data has."""
    steps: list[str | int] = []
    for step in location:
        there = step in data if isinstance(data, Mapping) else isinstance(data, list) and isinstance(step, int)
        if there:
            data = data[step]
        if there or step == "[key]":
            steps.append(step)
    return tuple(steps)


_ABSENT: Final = ("missing", "extra_forbidden")
_SHOULD_BE: Final = "Input should be "
_NO_TEXT: Final = (bool, int, float, date)  # what YAML makes of words without quotes


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest choice, or nothing."""
    close = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _say(document: Document, model: type[BaseModel], base: Path_, detail: Any) -> str:
    steps: Path_ = tuple(step for step in detail["loc"] if step != "[key]")
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


def _known_steps(document: Document, base: Path_, steps: Path_, *, last: bool) -> Path_:
    """Drop the names of union members, which pydantic puts into a location and no file has; `last` keeps the last step,
    of a key that the file lacks or should not have.
    """
    kept: list[str | int] = []
    for index, step in enumerate(steps):
        if (*base, *kept, step) in document.lines or (last and index == len(steps) - 1):
            kept.append(step)
    return tuple(kept)


def _fields_at(model: Any, where: Path_) -> set[str]:
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


def is_folder(path: Path) -> bool:
    """False where a folder above it may not be entered: reading it as a file then says so."""
    try:
        return path.is_dir()
    except OSError:
        return False
