"""A YAML file that people edit, read with line numbers; repeated keys are refused, because YAML would keep the last one
without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq, CommentedSet
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from pricing.errors import FileProblem
from pricing.files.numbers import reader
from pricing.files.parts import (
    TOO_DEEP,
    TOO_MANY,
    VALUES_AT_MOST,
    LongSection,
    NotByParts,
    Part,
    Steps,
    excess,
    long_sections,
    read_part,
)

KEPT_FILES: Final = 64  # policies of more files read each of them anew


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Document:
    """One file's plain data, which nobody may change, and the line of each key and item, counted from 1."""

    path: Path
    data: Any
    lines: Mapping[Steps, int]

    def place(self, where: Iterable[str | int] = ()) -> str:
        """The "path:line" of the closest place above `where` that the file has."""
        steps = tuple(where)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return f"{self.path}:{self.lines.get(steps, 1)}"

    def problem(self, where: Iterable[str | int], text: str) -> str:
        return f"{self.place(where)}: {text}"


class PartLines(Mapping[Steps, int]):
    """Lines of a file whose long sections were read entry by entry: each entry keeps its own, from its first line."""

    def __init__(self, rest: Mapping[Steps, int]) -> None:
        self._rest = rest
        self._parts: dict[Steps, tuple[int, str | int, Part]] = {}

    def add(self, where: Steps, at: int, own: str | int, part: Part) -> None:
        """The part at `where`, whose first line is `at`, from 0; in its own lines its first step is `own`."""
        self._parts[where] = (at, own, part)

    def __getitem__(self, steps: Steps) -> int:
        found = self._parts.get(steps[:2])
        if found is None:
            return self._rest[steps]
        at, own, part = found
        return at + part.lines[(own, *steps[2:])] + 1

    def __iter__(self) -> Iterator[Steps]:
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
    lines: dict[Steps, int] = {(): 1}
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

    def __init__(self, where: Steps, text: str) -> None:
        super().__init__(where)
        self.where = where
        self.text = text


def _plain(node: Any, where: Steps, lines: dict[Steps, int]) -> Any:
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


def is_folder(path: Path) -> bool:
    """False where a folder above it may not be entered: reading it as a file then says so."""
    try:
        return path.is_dir()
    except OSError:
        return False
