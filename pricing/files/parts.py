"""Long sections of a YAML file, read entry by entry: ten thousand tenants in seconds, and an edited one in no time.

A section is long where its key stands alone on a line at the left margin, with many entries one below the other. Each
entry ends where the next line begins at its own column, so it can be read by itself, by libyaml, which reads a hundred
times as fast as Python does. Entries that have not changed since they were last read are not read again.

Whatever could mean something else in the whole file is left to the reader of whole files: anchors, which other entries
may name; directives; and everything that cannot be read, so that what is wrong is said as always.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from _ruamel_yaml import CParser
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver

from pricing.files.numbers import reader

Steps = tuple[str | int, ...]

LONG: Final = 50  # entries; shorter sections are read with the rest of their file
DEEP: Final = 50  # levels of nesting; policy files, catalogues and price books have fewer than ten
VALUES_AT_MOST: Final = 200_000  # of a text that is read as a whole; ten thousand tenants have fewer
TOO_DEEP: Final = "nested too deep to be read; write it with fewer levels"
TOO_MANY: Final = f"more than {VALUES_AT_MOST:,} values with what aliases repeat, too many to be read; split the file"
STRETCH: Final = 1 << 16  # characters, a millisecond's search
_SECTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:[ \t]*(#.*)?")
_OF_THE_WHOLE: Final = re.compile(r"^%|^ *\t|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", re.MULTILINE)
_WHOLE_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]*")
_STR: Final = "tag:yaml.org,2002:str"
_RESOLVER: Final = VersionedResolver(loader=YAML(typ="safe", pure=True))


class NotByParts(Exception):
    """This text must be read as a whole. Never leaves the reader of files."""


@dataclass(frozen=True, slots=True)
class Part:
    """One entry's data, and the line of each key and item in it, counted from 0 at the entry's own first line."""

    data: Any
    lines: Mapping[Steps, int]


@dataclass(frozen=True, slots=True)
class LongSection:
    """The entries of one section. `at` is its line, `entries` are texts with their lines, all counted from 0."""

    name: str
    at: int
    entries: Sequence[tuple[int, str]]


def long_sections(text: str) -> tuple[str, list[LongSection]]:
    """The text with empty lines in place of long sections' entries, and those sections."""
    if any(_OF_THE_WHOLE.search(text, begin, end) for begin, end in _stretches(text)):
        return text, []
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if line[:1] not in ("", " ", "#")]
    if not starts:
        return text, []
    found = []
    for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        if _SECTION.fullmatch(lines[begin]) and (entries := _entries(lines, begin + 1, end)):
            found.append(LongSection(lines[begin].partition(":")[0], begin, entries))
            lines[begin + 1 : end] = [""] * (end - begin - 1)
    return "\n".join(lines), found


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    """Whole lines, a few at a time: one search of a text of megabytes would keep every other thread waiting."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + STRETCH) + 1 or len(text)
        yield begin, end
        begin = end


def _entries(lines: Sequence[str], begin: int, end: int) -> list[tuple[int, str]]:
    """The texts from each line at the first entry's column to the next, with line breaks; none where they are few."""
    body = [number for number in range(begin, end) if lines[number].strip() and lines[number].lstrip()[0] != "#"]
    if not body:
        return []
    column = len(lines[body[0]]) - len(lines[body[0]].lstrip())
    margin = " " * column
    starts = [number for number in body if lines[number][:column] == margin and lines[number][column] != " "]
    if len(starts) < LONG:
        return []
    ends = [*starts[1:], end]
    return [(first, "\n".join([*lines[first:last], ""])) for first, last in zip(starts, ends, strict=True)]


@lru_cache(maxsize=32_768)
def read_part(text: str) -> Part:
    """One entry: a mapping or sequence of one. Raises NotByParts."""
    try:
        return _Builder(text).part()
    except (YAMLError, RecursionError):
        raise NotByParts from None


def excess(text: str) -> tuple[int, str | None]:
    """What of a text is more than people write, and would take Python minutes to read; None where nothing is.

    With it the line, from 1, where it first is too much, or else where the text ends or cannot be read.
    """
    events, depth, values, line = CParser(text), 0, 0, 1
    with suppress(YAMLError):
        while not isinstance(event := events.get_event(), StreamEndEvent):
            line = event.start_mark.line + 1
            begins = isinstance(event, MappingStartEvent | SequenceStartEvent)
            depth += begins - isinstance(event, MappingEndEvent | SequenceEndEvent)
            values += begins or isinstance(event, ScalarEvent)
            if depth > DEEP:
                return line, TOO_DEEP
            if values > VALUES_AT_MOST:
                return line, TOO_MANY
    return line, None


class _Builder:
    """Builds plain data from libyaml's events."""

    def __init__(self, text: str) -> None:
        self._events = CParser(text)
        self._lines: dict[Steps, int] = {}

    def part(self) -> Part:
        for _ in ("stream", "document"):
            self._events.get_event()
        data = self._value(self._events.get_event(), ())
        self._events.get_event()  # the document's end
        if (
            not isinstance(data, dict | list)
            or len(data) != 1
            or not isinstance(self._events.get_event(), StreamEndEvent)
        ):
            raise NotByParts
        return Part(data, self._lines)

    def _value(self, event: Any, where: Steps) -> Any:
        if isinstance(event, AliasEvent) or event.anchor is not None or event.tag is not None:
            raise NotByParts
        if isinstance(event, MappingStartEvent):
            return self._mapping(where)
        return self._sequence(where) if isinstance(event, SequenceStartEvent) else _scalar(event)

    def _mapping(self, where: Steps) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for event in self._until(MappingEndEvent):
            if not isinstance(event, ScalarEvent) or event.value == "<<" or event.anchor is not None:
                raise NotByParts
            key = _scalar(event)
            if key in found or not isinstance(key, str):
                raise NotByParts
            here = _same((*where, key))
            self._lines[here] = event.start_mark.line
            found[key] = self._value(self._events.get_event(), here)
        return found

    def _sequence(self, where: Steps) -> list[Any]:
        found: list[Any] = []
        for event in self._until(SequenceEndEvent):
            here = _same((*where, len(found)))
            self._lines[here] = event.start_mark.line
            found.append(self._value(event, here))
        return found

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := self._events.get_event(), end):
            yield event


@lru_cache(maxsize=4_096)
def _same(steps: Steps) -> Steps:
    """One tuple for equal ones: thousands of tenants have the same keys."""
    return steps


def _scalar(event: Any) -> Any:
    plain, _ = event.implicit
    return _plain(event.value) if plain else event.value


@lru_cache(maxsize=16_384)
def _plain(text: str) -> Any:
    """An unquoted word as the reader of whole files takes it."""
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if _RESOLVER.resolve(ScalarNode, text, (True, False)) == _STR:
        return text
    value = reader().load(text)
    if value is None or isinstance(value, bool):
        return value
    for plain_type in (int, float, str):
        if isinstance(value, plain_type):
            return plain_type(value)
    raise NotByParts
