"""The pools that a policy needs, each with what never changes until the next reload: rate, fit, boot, timing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from policies.files.fileset import FileSet, Placed
from policies.policy import RateChange
from pools.catalog.token_pools import HOLDS_ANYTHING
from pools.fit.memory import MemoryFit, fit
from pools.fit.timing import Timing, boot_seconds, timing_of
from pools.spec import GpuSpec, PoolSpec
from pricing.clock import US_PER_S
from pricing.errors import FileProblem, SluiceError, UnknownPrice
from pricing.nearest import nearest
from pricing.prices.book import PriceBook, load_books, shipped_books
from pricing.prices.rates import ContainerRate, container_rate, token_rate


@dataclass(frozen=True, slots=True)
class PoolParts:
    """One pool, compiled. Tokens of `sequence_tokens` as in `policies.policy.Rung`."""

    spec: PoolSpec
    rate: ContainerRate
    fit: MemoryFit
    boot_s: float
    timing: Timing
    sequence_tokens: int


@dataclass(frozen=True, slots=True)
class Books:
    """The price book in force and those that follow it, in the order in which they take effect."""

    current: PriceBook
    later: tuple[PriceBook, ...]


NO_BOOKS: Final[Mapping[str, Books]] = MappingProxyType({})


def choose_books(files: FileSet, now_us: int, problems: list[str]) -> Books | None:
    """The books that `price_book:` names, at a time. None where that is not possible; `problems` then say why."""
    known = _known_books(files, problems)
    asked = files.single("price_book")
    if asked is None:
        problems.append(f"{files.first_place}: 'price_book' is missing; name one of {', '.join(sorted(known))}")
        return None
    ids = [asked.value] if isinstance(asked.value, str) else asked.value
    if not ids:
        problems.append(asked.problem(f"'price_book' names no book; name one of {', '.join(sorted(known))}"))
    return _in_time(ids, known, now_us, asked.problem, problems) if ids else None


def own_books(files: FileSet, specs: Iterable[PoolSpec], now_us: int, problems: list[str]) -> dict[str, Books]:
    """Of pools whose rows name price books of their own, as those do that are billed by the token elsewhere."""
    stated = [(spec, spec.terms.price_books) for spec in specs if spec.terms is not None and spec.terms.price_books]
    if not stated:
        return {}
    known = _known_books(files, [])  # what is wrong with them has been said
    books = {}
    for spec, ids in stated:
        found = _in_time(ids, known, now_us, partial("{}: pool '{}': {}".format, spec.place, spec.name), problems)
        if found is not None:
            books[spec.name] = found
    return books


def _in_time(
    ids: Sequence[str],
    known: Mapping[str, PriceBook],
    now_us: int,
    problem: Callable[[str], str],
    problems: list[str],
) -> Books | None:
    """The named books in the order in which they take effect. None where one is not known, or none has begun."""
    unknown = [one for one in ids if one not in known]
    problems += [problem(f"there is no price book '{one}'{_hint(one, known)}") for one in unknown]
    if unknown:
        return None
    books = sorted((known[one] for one in ids), key=begins_us)
    begun = [book for book in books if begins_us(book) <= now_us]
    if not begun:
        first = f"'{books[0].id}' begins on {books[0].effective_from}"
        problems.append(problem(f"no price book is in force yet, {first}; name an earlier one beside it"))
        return None
    return Books(begun[-1], tuple(books[len(begun) :]))


def _known_books(files: FileSet, problems: list[str]) -> Mapping[str, PriceBook]:
    """The shipped books and those that the files add, none under the id of another."""
    paths = [placed.document.path.parent / placed.value for placed in files.listing("price_books")]
    shipped = shipped_books()
    try:
        added = load_books(paths) if paths else {}
    except FileProblem as error:
        problems += error.problems
        return shipped
    taken = [book for name, book in added.items() if name in shipped]
    problems += [f"{book.path}:1: book id '{book.id}' is that of a shipped book; give it another" for book in taken]
    return {**shipped, **added}


def _hint(word: str, known: Iterable[str]) -> str:
    return nearest(word, known) or "; `sluice prices` lists them"


def begins_us(book: PriceBook) -> int:
    """The instant from which a book holds, microseconds since the epoch; 0 where it always has."""
    day = book.effective_from
    return 0 if day is None else int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * US_PER_S


def compile_pools(
    specs: Iterable[PoolSpec],
    gpus: Mapping[str, GpuSpec],
    books: Books,
    places: Mapping[str, Placed[object]],
    problems: list[str],
    own: Mapping[str, Books] = NO_BOOKS,
) -> dict[str, PoolParts]:
    """Rate, fit, boot and timing of each pool. One that cannot load, or has no price, is a problem of the place that
    lists it. `gpus` are what a remedy may propose; `own` are books of pools that have other than the policy's.
    """
    parts = {}
    for spec in specs:
        try:
            parts[spec.name] = _compile(spec, gpus, own.get(spec.name, books).current)
        except (UnknownPrice, CannotServe) as error:
            text = f"pool '{spec.name}': {error}"
            problems.append(places[spec.name].problem(text) if spec.name in places else f"{spec.place}: {text}")
    return parts


class CannotServe(SluiceError):
    """A pool's row describes something that would never serve."""


def _compile(spec: PoolSpec, gpus: Mapping[str, GpuSpec], book: PriceBook) -> PoolParts:
    """Raises CannotServe and UnknownPrice."""
    if spec.terms is not None:
        return PoolParts(spec, rate_of(spec, book), HOLDS_ANYTHING, 0.0, timing_of(spec), 0)
    memory = fit(spec, gpus)
    if not memory.loads:
        raise CannotServe(f"cannot load: {memory.problem}" + (f"; {memory.remedy}" if memory.remedy else ""))
    seconds = spec.model.seconds_per_item
    if seconds is not None and spec.gpu.id not in seconds:
        raise CannotServe(
            f"model '{spec.model.id}' has no seconds_per_item for {spec.gpu.id}; add it to the model's row"
        )
    state_bytes = memory.state_mib_per_sequence * 2**20
    sequence_tokens = math.ceil(state_bytes / memory.kv_bytes_per_token) if memory.kv_bytes_per_token else 0
    return PoolParts(spec, rate_of(spec, book), memory, boot_seconds(spec), timing_of(spec), sequence_tokens)


def rate_of(spec: PoolSpec, book: PriceBook) -> ContainerRate:
    """One container's rate in a book, or that of its tokens. Raises UnknownPrice."""
    if spec.terms is not None:
        return token_rate(book, spec.terms.priced_as)
    return container_rate(book, spec.gpu.id, spec.gpu_count, spec.cpu_cores, spec.memory_gib, spec.region)


def rate_changes(
    specs: Sequence[PoolSpec], books: Books, problems: list[str], own: Mapping[str, Books] = NO_BOOKS
) -> tuple[RateChange, ...]:
    """What changes when the later books take effect. A later book must price every pool that goes by it."""
    changes = [_change([spec for spec in specs if spec.name not in own], book, problems) for book in books.later]
    for spec in specs:
        if spec.name in own:
            changes += [_change([spec], book, problems) for book in own[spec.name].later]
    return tuple(changes)


def _change(specs: Sequence[PoolSpec], book: PriceBook, problems: list[str]) -> RateChange:
    rates = {}
    for spec in specs:
        try:
            rates[spec.name] = rate_of(spec, book)
        except UnknownPrice as error:
            problems.append(f"{book.path}:1: pool '{spec.name}' of this policy: {error}")
    return RateChange(begins_us(book), book.id, rates)
