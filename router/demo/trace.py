"""Recorded arrivals: when a request came, and how many tokens went in and out."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

from pricing.errors import FileProblem
from pricing.nearest import nearest

SHIPPED: Final = "azure_conv_5min.csv.gz"
REQUIRED: Final = ("t_s", "input_tokens", "output_tokens")
OPTIONAL: Final = ("tenant", "class", "tier")
TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOST_TOKENS: Final = 1_000_000
PROBLEMS_NAMED: Final = 20
COLUMNS: Final = f"the first line names the columns {','.join(REQUIRED)}, and optionally {','.join(OPTIONAL)}"


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One arrival, `at_s` seconds after the first. What is None is assigned by the demo."""

    at_s: float
    input_tokens: int
    output_tokens: int
    tenant: str | None = None
    request_class: str | None = None
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What the columns `class` and `tier` may say. A tenant may have any name: the demo makes it a key."""

    classes: Collection[str]
    tiers: Collection[str]


def shipped_trace() -> list[TraceRow]:
    """The first five minutes of Azure's conversation trace of 2023, see data/SOURCE.md."""
    packed = (resources.files("router.demo") / "data" / SHIPPED).read_bytes()
    return parse_trace(gzip.decompress(packed).decode(), SHIPPED, Names((), ()))


def read_trace(path: Path, names: Names) -> list[TraceRow]:
    """A file of one's own, plain or gzipped. Raises FileProblem with file:line of what is wrong."""
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileProblem([f"{path}:1: the trace cannot be read: {reason}; name another with --trace"]) from None
    return parse_trace(text, str(path), names)


def parse_trace(text: str, place: str, names: Names) -> list[TraceRow]:
    """Rows in order of arrival, counted from the first. Raises FileProblem."""
    reader = csv.DictReader(io.StringIO(text), restkey="", strict=True)
    _check_header(reader.fieldnames or (), place)
    rows: list[TraceRow] = []
    problems: list[str] = []
    try:
        for fields in reader:
            try:
                rows.append(_row(fields, names))
            except ValueError as error:
                problems.append(f"{place}:{reader.line_num}: {error}")
    except csv.Error as error:
        problems.append(f"{place}:{reader.line_num}: {error}; write one row a line")
    if not rows and not problems:
        problems.append(f"{place}:1: there are no rows below the header; add one line for each request")
    if problems:
        raise FileProblem(_shortened(problems))
    return _from_the_first(rows)


def _check_header(columns: Iterable[str], place: str) -> None:
    known = (*REQUIRED, *OPTIONAL)
    found = list(columns)
    for column in found:
        if column not in known:
            raise FileProblem([f"{place}:1: unknown column '{column}'{nearest(column, known)}; {COLUMNS}"])
    for column in REQUIRED:
        if column not in found:
            raise FileProblem([f"{place}:1: column '{column}' is missing; {COLUMNS}"])
    if len(set(found)) != len(found):
        raise FileProblem([f"{place}:1: a column stands there twice; {COLUMNS}"])


def _row(fields: Mapping[str, str | None], names: Names) -> TraceRow:
    """Raises ValueError saying which column is wrong."""
    if "" in fields:
        raise ValueError("there are more values than columns; quote values that hold a comma")
    return TraceRow(
        at_s=_seconds(fields["t_s"]),
        input_tokens=_tokens(fields, "input_tokens"),
        output_tokens=_tokens(fields, "output_tokens"),
        tenant=_tenant(fields),
        request_class=_name(fields, "class", names.classes),
        tier=_name(fields, "tier", names.tiers),
    )


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"t_s is seconds from 0 up, not '{text or ''}'")
    return seconds


def _tokens(fields: Mapping[str, str | None], column: str) -> int:
    text = (fields[column] or "").strip()
    if not text.isdecimal() or not 1 <= int(text) <= MOST_TOKENS:
        raise ValueError(f"{column} is a whole number from 1 to {MOST_TOKENS:,}, not '{text}'")
    return int(text)


def _tenant(fields: Mapping[str, str | None]) -> str | None:
    name = (fields.get("tenant") or "").strip()
    if name and not TENANT.fullmatch(name):
        raise ValueError(f"tenant is up to 64 letters, digits, '.', '_' and '-', not '{name}'")
    return name or None


def _name(fields: Mapping[str, str | None], column: str, known: Collection[str]) -> str | None:
    name = (fields.get(column) or "").strip()
    if name and name not in known:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise ValueError(f"{column} '{name}' is not in the demo's policy{hint}")
    return name or None


def _from_the_first(rows: list[TraceRow]) -> list[TraceRow]:
    ordered = sorted(rows, key=lambda row: row.at_s)
    first_s = ordered[0].at_s
    return [replace(row, at_s=row.at_s - first_s) for row in ordered]


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - PROBLEMS_NAMED
    return [*problems[:PROBLEMS_NAMED], f"… and {more} more"] if more > 0 else problems
