"""Bills as CSV: our columns, or those of `modal billing report --csv`; every problem with file:line.

    ours     interval_start, app (or object, or pool), resource, cost, currency
    Modal's  Object ID, Description, Environment, Interval Start, Resource, Cost, Tags

`resource` and `currency` may be missing: the cost is then of everything together, and in US dollars. An interval is an
hour. An object's hour is billed together or in parts: a sum beside its parts would count twice.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple

from pricing.clock import US_PER_S
from pricing.errors import FileProblem
from pricing.money import US_PER_HOUR
from pricing.prices.resources import Resource
from pricing.reconcile.bill import Bill, BillBuilder, PoolOf, resource_of

CURRENCY: Final = "USD"
_NAMES: Final = ("app", "description", "object", "pool")
_HOURLY: Final = "`modal billing report --resolution h --show-resources --tag-names pool --csv` has hours"
_ONE_WORD: Final = (Resource.CPU, Resource.MEMORY, Resource.CONTAINER)  # a bill may have several GPUs, and other things
_NAMED: Final = 20  # bad lines: a bill of another currency has a hundred thousand
_DIGITS: Final = 30  # of a cost: more is no price of anything


class BadLine(ValueError):
    """A line cannot be used; the message says why."""


class _Line(NamedTuple):
    at_us: int
    name: str
    tags: Mapping[str, str]
    word: str  # what the bill calls the resource
    usd: Decimal
    object_id: str
    environment: str

    @property
    def resource(self) -> Resource:
        return resource_of(self.word)


class _Told:
    """Where each resource of an object's hour was told."""

    def __init__(self) -> None:
        self._lines: dict[tuple[object, ...], dict[str, int]] = {}

    def check(self, line: _Line, number: int) -> None:
        """Raises BadLine for what an earlier line has told, alone or in a sum."""
        lines = self._lines.setdefault((line.at_us, line.name, line.object_id, line.environment), {})
        word = line.resource if line.resource in _ONE_WORD else line.word.lower()
        together = line.resource is Resource.CONTAINER
        if word in lines:
            raise BadLine(f"the same interval, object and resource as in line {lines[word]}; keep one of them")
        if lines and (together or Resource.CONTAINER in lines):
            [first, *_] = lines.values()
            sums, parts = (number, first) if together else (first, number)
            raise BadLine(
                f"line {sums} has together what line {parts} has a part of, which would count twice; keep either"
            )
        lines[word] = number


def read_csv_bill(path: Path, pool_of: PoolOf, since_us: int, until_us: int, environment: str | None = None) -> Bill:
    """A bill's hours in a window, see `BillBuilder`. Raises FileProblem with every bad line, as far as they fit."""
    builder = BillBuilder(str(path), pool_of, since_us, until_us, environment)
    problems: list[str] = []
    told = _Told()
    hours: set[int] = set()
    for number, fields in _records(path):
        try:
            line = _line(fields)
            told.check(line, number)
        except BadLine as problem:
            problems.append(f"{path}:{number}: {problem}")
            continue
        hours.add(line.at_us)
        builder.add(line.at_us, line.name, line.tags, line.resource, line.usd, line.environment)
    if hours and all(at_us % (24 * US_PER_HOUR) == 0 for at_us in hours):
        problems.append(f"{path}:1: every interval begins at midnight, so that it is a report by day; {_HOURLY}")
    if len(problems) > _NAMED:
        problems[_NAMED:] = [f"{path}: and {len(problems) - _NAMED:,} more lines like these"]
    if problems:
        raise FileProblem(problems)
    return builder.bill()


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields by plain name). Raises FileProblem for what is no table of a bill."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip().lower().replace(" ", "_") for name in next(reader, [])]
            _check_names(path, names)
            for record in reader:
                if not any(record):  # as spreadsheets leave behind
                    continue
                if len(record) != len(names):
                    raise FileProblem([f"{path}:{reader.line_num}: {len(record)} fields, the header has {len(names)}"])
                yield reader.line_num, dict(zip(names, (field.strip() for field in record), strict=True))
    except UnicodeDecodeError:
        raise FileProblem([f"{path}: cannot be read: it is not UTF-8 text; save it as CSV in UTF-8"]) from None
    except (OSError, csv.Error) as error:
        raise FileProblem([f"{path}: cannot be read: {error}"]) from None


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) == 1 and any(separator in names[0] for separator in ";\t"):
        raise FileProblem(
            [f"{path}:1: columns stand between semicolons or tabs; save it with commas and decimal points"]
        )
    missing = [name for name in ("interval_start", "cost") if name not in names]
    if not any(name in names for name in _NAMES):
        missing.append("app")
    if missing:
        raise FileProblem([f"{path}:1: column {missing[0]} is missing; docs/reconcile.md has the columns of a bill"])
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FileProblem([f"{path}:1: column {twice[0]} is there twice"])


def _line(fields: Mapping[str, str]) -> _Line:
    """Raises BadLine."""
    currency = fields.get("currency") or CURRENCY
    if currency.upper() != CURRENCY:
        raise BadLine(f"currency {currency} beside US dollars: sums of several currencies mean nothing; bill in USD")
    name = next((fields[each] for each in _NAMES if fields.get(each)), "")
    if not name:
        raise BadLine("no app, object or pool is named")
    return _Line(
        at_us=_hour(fields["interval_start"]),
        name=name,
        tags={**_tags(fields.get("tags", "")), **({"pool": fields["pool"]} if fields.get("pool") else {})},
        word=fields.get("resource", ""),
        usd=_cost(fields["cost"]),
        object_id=fields.get("object_id", ""),
        environment=fields.get("environment", ""),
    )


def _hour(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadLine(f"interval_start '{text}' is not an instant; write 2026-11-01T14:00Z") from None
    if len(text) <= len("2026-11-01"):
        raise BadLine(f"interval_start '{text}' is a day; {_HOURLY}")
    at_us = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * US_PER_S
    if at_us % US_PER_HOUR or moment.microsecond:
        raise BadLine(f"interval_start '{text}' is not the begin of an hour of UTC")
    return at_us


def _cost(text: str) -> Decimal:
    try:
        cost = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise BadLine(f"cost '{text[:40]}' is not a number") from None
    if "_" in text:  # which Python takes for a separator
        raise BadLine(f"cost '{text[:40]}' is not a number")
    if not cost.is_finite() or len(cost.as_tuple().digits) > _DIGITS or abs(cost.adjusted()) > _DIGITS:
        raise BadLine(f"cost '{text[:40]}' is not an amount of dollars")
    if cost < 0:
        raise BadLine(f"cost {text} is a credit: hours are compared by what was metered; leave credits out")
    return cost


def _tags(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        tags = json.loads(text)
    except ValueError:
        raise BadLine("tags are no JSON object") from None
    if not isinstance(tags, dict):
        raise BadLine("tags are no JSON object")
    return {str(name): str(value) for name, value in tags.items()}
