"""Canaries: strings that must never come out where people other than the caller can read.

A test plants one for each kind of secret (prompt, completion, API key, the upstream's secret), runs traffic, and
searches everything that was written: logs, error bodies, metrics, the ledger's files. Any run of `SLICE` characters
of a canary counts as a leak, so that a shortened prompt is found too, and so does one in hex, base64 or JSON escapes.
"""

from __future__ import annotations

import base64
import json
import random
import sqlite3
import string
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

SLICE = 10  # characters; a random run of that length does not occur by chance
_ALPHABET = string.ascii_letters + string.digits
_SQLITE_MAGIC = b"SQLite format 3\x00"

Haystack = str | bytes | Path


@dataclass(frozen=True, slots=True)
class Canaries:
    """One secret of each kind. Send `prompt` in a request, let a pool answer `completion`, and so on."""

    prompt: str
    completion: str
    api_key: str
    upstream_secret: str

    @classmethod
    def plant(cls, seed: int) -> Self:
        """Four secrets that look like what they stand for; the same for the same seed.

        The completion has several words, so that a stream carries it in several chunks; each word is longer than
        `SLICE`. The prompt has characters that JSON escapes.
        """
        source = random.Random(seed)

        def word(length: int = 16) -> str:
            return "".join(source.choices(_ALPHABET, k=length))

        return cls(
            prompt=f'"{word()}"\n{word()} é {word()}',
            completion=" ".join(word() for _ in range(6)),
            api_key=f"sk-{word(32)}",
            upstream_secret=f"up-{word(32)}",
        )

    def leaks(self, places: Mapping[str, Haystack]) -> list[str]:
        """Where a canary shows: one line for each pair of place and kind, naming the form, never the secret itself.

        A place is text, bytes, a file, or a folder with everything below it. SQLite files are also read cell by cell,
        since a value may be split over pages.
        """
        found = []
        for place, haystack in places.items():
            for name, content in _contents(place, haystack):
                for field in fields(self):
                    form = _form_found(getattr(self, field.name), content)
                    if form is not None:
                        found.append(f"{name}: {field.name} ({form})")
        return found


def _contents(place: str, haystack: Haystack) -> Iterator[tuple[str, bytes]]:
    if isinstance(haystack, str):
        yield place, haystack.encode()
    elif isinstance(haystack, bytes):
        yield place, haystack
    elif haystack.is_dir():
        for path in sorted(haystack.rglob("*")):
            if path.is_file():
                yield from _contents(f"{place}/{path.relative_to(haystack)}", path)
    else:
        content = haystack.read_bytes()
        yield place, content
        if content.startswith(_SQLITE_MAGIC):
            yield f"{place} (cells)", b"\n".join(_cells(haystack))


def _cells(path: Path) -> Iterator[bytes]:
    """Every text and blob of every table, through SQLite, which also sees what is still in the write-ahead log."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            quoted = name.replace('"', '""')
            for row in connection.execute(f'SELECT * FROM "{quoted}"'):
                yield from (cell.encode() for cell in row if isinstance(cell, str))
                yield from (cell for cell in row if isinstance(cell, bytes))
    finally:
        connection.close()


def _form_found(secret: str, content: bytes) -> str | None:
    """The form in which a piece of `secret` stands in `content`, or None."""
    folded = content.lower()
    for form, needles in _needles(secret):
        # Hex has no case, and neither does text that a log may have lowered; base64 does.
        where = content if form == "base64" else folded
        if any((needle if form == "base64" else needle.lower()) in where for needle in needles):
            return form
    return None


def _needles(secret: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The forms to look for, each with every run of `SLICE` characters of the secret."""
    runs = [secret[start : start + SLICE] for start in range(len(secret) - SLICE + 1)]
    solid = [run for run in runs if run.isascii() and run.isalnum()]
    yield "plain", [run.encode() for run in runs]
    yield "JSON", [json.dumps(run)[1:-1].encode() for run in runs]
    yield "URL", [urllib.parse.quote(run).encode() for run in runs]
    yield "hex", [run.encode().hex().encode() for run in solid]
    yield "base64", [_base64_core(run.encode()) for run in solid]


def _base64_core(run: bytes) -> bytes:
    """Base64 of whole groups of three bytes; whatever stands before a secret, every third run begins a group."""
    whole = len(run) - len(run) % 3
    return base64.b64encode(run[:whole])
