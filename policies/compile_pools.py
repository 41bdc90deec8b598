"""The pools that a policy needs, each with what never changes until the next reload: rate, fit, boot, timing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from policies.fileset import FileSet, Placed
from policies.policy import RateChange
from pools.memory import MemoryFit, fit
from pools.spec import GpuSpec, PoolSpec
from pools.timing import TimingModel, boot_seconds, timing_model
from pricing.book import PriceBook, load_books, shipped_books
from pricing.clock import US_PER_S
from pricing.errors import FileProblem, SluiceError, UnknownPrice
from pricing.rates import ContainerRate, container_rate
from pricing.yamlfile import nearest


@dataclass(frozen=True, slots=True)
class PoolParts:
    """One pool, compiled. Tokens of `sequence_tokens` as in `policies.policy.Rung`."""

    spec: PoolSpec
    rate: ContainerRate
    fit: MemoryFit
    boot_s: float
    timing: TimingModel
    sequence_tokens: int


@dataclass(frozen=True, slots=True)
class Books:
    """The price book in force and those that follow it, in the order in which they take effect."""

    current: PriceBook
    later: tuple[PriceBook, ...]


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
    unknown = [one for one in ids if one not in known]
    problems += [asked.problem(f"there is no price book '{one}'{_hint(one, known)}") for one in unknown]
    if unknown or not ids:
        return None
    books = sorted((known[one] for one in ids), key=begins_us)
    begun = [book for book in books if begins_us(book) <= now_us]
    if not begun:
        first = f"'{books[0].id}' begins on {books[0].effective_from}"
        problems.append(asked.problem(f"no price book is in force yet, {first}; name an earlier one beside it"))
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
    book: PriceBook,
    places: Mapping[str, Placed[object]],
    problems: list[str],
) -> dict[str, PoolParts]:
    """Rate, fit, boot and timing of each pool. One that cannot load, or has no price, is a problem of the place that
    lists it. `gpus` are what a remedy may propose.
    """
    parts = {}
    for spec in specs:
        try:
            parts[spec.name] = _compile(spec, gpus, book)
        except (UnknownPrice, CannotServe) as error:
            text = f"pool '{spec.name}': {error}"
            problems.append(places[spec.name].problem(text) if spec.name in places else f"{spec.place}: {text}")
    return parts


class CannotServe(SluiceError):
    """A pool's row describes something that would never serve."""


def _compile(spec: PoolSpec, gpus: Mapping[str, GpuSpec], book: PriceBook) -> PoolParts:
    """Raises CannotServe and UnknownPrice."""
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
    return PoolParts(spec, rate_of(spec, book), memory, boot_seconds(spec), timing_model(spec), sequence_tokens)


def rate_of(spec: PoolSpec, book: PriceBook) -> ContainerRate:
    """One container's rate in a book. Raises UnknownPrice."""
    return container_rate(book, spec.gpu.id, spec.gpu_count, spec.cpu_cores, spec.memory_gib, spec.region)


def rate_changes(specs: Sequence[PoolSpec], books: Books, problems: list[str]) -> tuple[RateChange, ...]:
    """What changes when the later books take effect. A later book must price every pool too."""
    changes = []
    for book in books.later:
        rates = {}
        for spec in specs:
            try:
                rates[spec.name] = rate_of(spec, book)
            except UnknownPrice as error:
                problems.append(f"{book.path}:1: pool '{spec.name}' of this policy: {error}")
        changes.append(RateChange(begins_us(book), book.id, rates))
    return tuple(changes)
