"""Price books: dated, sourced prices of GPU time, read from YAML files that people edit.

A book never answers with a default: what it does not list raises `UnknownPrice`, which names the file to edit. Rates
are integer nano-dollars per hour, whatever unit the source states; multipliers are integer thousandths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

from pricing.book_schema import BookShape, GpuShape, ResourceBilling, ResourceShape
from pricing.errors import FileProblem, UnknownGpu, UnknownPrice
from pricing.gpus import canonical_gpu
from pricing.money import parse_usd
from pricing.yamlfile import Document, nearest, read_yaml, validate

SHIPPED_FOLDER = Path(__file__).parent / "books"
VCPUS_PER_CORE = 2  # hyperthreads of one physical core
THOUSANDTHS = 1000


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """One GPU in one book. `stated` is the source's own number, `per` its unit (`hour` or `second`).

    `also_stated_nusd_per_h` is an hourly figure that the source writes beside the one it computes with.
    """

    gpu: str
    nusd_per_h: int
    stated: Decimal
    per: str
    place: str  # "file:line"
    source_says: str | None = None
    also_stated_nusd_per_h: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ResourcePrice:
    """CPU (per physical core) or memory (per GiB); the rate is 0 unless it is billed separately."""

    billing: ResourceBilling
    nusd_per_h: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices of one source at one time.

    `as_of` is the day at which the source states these prices, None when it is undated. `effective_from` is the day
    (00:00 UTC) from which they hold, None when they hold until a later book of the same `series` takes over. A billing
    flag is None where the source does not say. `min_increment_s` is the step to which billed time is rounded up.
    """

    id: str
    title: str
    provider: str
    product: str  # what the provider sells at these prices; sources disagree about one product only
    source: str
    as_of: date | None
    effective_from: date | None
    series: str
    currency: str
    bills_image_pull: bool | None
    bills_model_init: bool | None
    bills_idle_tail: bool | None
    min_increment_s: Decimal | None
    idle_default_s: Decimal | None
    cpu: ResourcePrice
    memory: ResourcePrice
    region_thousandths: Mapping[str, int]
    nonpreemptible_thousandths: int | None  # CPU and memory only
    notes: tuple[str, ...]
    gpus: Mapping[str, GpuPrice]
    path: Path

    def gpu_price(self, gpu: str) -> GpuPrice:
        """The price of a GPU, by canonical id or alias. Raises UnknownPrice."""
        try:
            return self.gpus[canonical_gpu(gpu)]
        except UnknownGpu as error:
            raise UnknownPrice(f"book '{self.id}': {error}") from None
        except KeyError:
            dated = f" (as of {self.as_of})" if self.as_of else ""
            raise UnknownPrice(
                f"no price for GPU '{gpu}' in book '{self.id}'{dated}; add it to {self.path}, or name another book"
            ) from None

    def region_multiplier_thousandths(self, region: str | None) -> int:
        """What a pinned region multiplies every rate by; None, no pin, is 1000. Raises UnknownPrice."""
        if region is None:
            return THOUSANDTHS
        if region not in self.region_thousandths:
            known = ", ".join(self.region_thousandths) or "none"
            raise UnknownPrice(
                f"book '{self.id}' has no multiplier for region '{region}'{nearest(region, self.region_thousandths)};"
                f" it lists: {known}; add the region to region_multipliers in {self.path}"
            )
        return self.region_thousandths[region]


def is_book(data: object) -> bool:
    """Whether a file's data is meant as a price book: it has no `version`, and a provider or a list of GPUs."""
    if not isinstance(data, Mapping) or "version" in data:
        return False
    return "provider" in data or isinstance(data.get("gpus"), list)


def load_book(path: Path) -> PriceBook:
    """Read one book. Raises FileProblem with file:line for everything that is wrong with it."""
    document = read_yaml(path)
    shape = validate(document, BookShape)
    repeated = _repeated_gpus(document, shape)
    if repeated:
        raise FileProblem(repeated)
    return PriceBook(
        id=shape.id,
        title=shape.title,
        provider=shape.provider,
        product=shape.product,
        source=shape.source,
        as_of=shape.as_of,
        effective_from=shape.effective_from,
        series=shape.series or shape.id,
        currency=shape.currency,
        bills_image_pull=shape.bills_image_pull,
        bills_model_init=shape.bills_model_init,
        bills_idle_tail=shape.bills_idle_tail,
        min_increment_s=shape.min_increment_s,
        idle_default_s=shape.idle_default_s,
        cpu=_resource(shape.cpu, VCPUS_PER_CORE if shape.cpu.per == "vcpu" else 1),
        memory=_resource(shape.memory, 1),
        region_thousandths={name: int(value * THOUSANDTHS) for name, value in shape.region_multipliers.items()},
        nonpreemptible_thousandths=_thousandths(shape.nonpreemptible_multiplier),
        notes=tuple(shape.notes),
        gpus={entry.gpu: _gpu(document, index, entry) for index, entry in enumerate(shape.gpus)},
        path=path,
    )


def load_books(source: Path | Iterable[Path]) -> dict[str, PriceBook]:
    """Read a folder's `*.yaml`, one file, or several of either, into books by id.

    Raises FileProblem with every problem of every file; also for one id twice, for a folder without books, and for two
    books of one series that price the same GPU from the same day.
    """
    books: list[PriceBook] = []
    problems: list[str] = []
    for path in _files([source] if isinstance(source, Path) else source):
        try:
            books.append(load_book(path))
        except FileProblem as error:
            problems += error.problems
    problems += _clashes(books)
    if problems:
        raise FileProblem(problems)
    return {book.id: book for book in books}


@cache
def shipped_books() -> Mapping[str, PriceBook]:
    """The books that come with the product, by id."""
    return load_books(SHIPPED_FOLDER)


def find_book(books: Mapping[str, PriceBook], book_id: str) -> PriceBook:
    """The book of that id. Raises UnknownPrice with the nearest id."""
    if book_id not in books:
        hint = nearest(book_id, books) or f"; known: {', '.join(sorted(books))}"
        raise UnknownPrice(f"no price book '{book_id}'{hint}; `sluice prices` lists them")
    return books[book_id]


def books_of_series(books: Iterable[PriceBook], series: str) -> tuple[PriceBook, ...]:
    """The books that follow one another under one series name, in the order in which they take effect."""
    return tuple(sorted((book for book in books if book.series == series), key=_starts))


def book_in_force(books: Iterable[PriceBook], at: date) -> PriceBook:
    """The one of these books that took effect last, on or before `at` (a UTC day). Raises UnknownPrice if none had."""
    known = sorted(books, key=_starts)
    begun = [book for book in known if _starts(book) <= at]
    if begun:
        return begun[-1]
    first = f"the first, '{known[0].id}', takes effect on {known[0].effective_from}" if known else "there are no books"
    raise UnknownPrice(f"no price book in force on {at}: {first}; add one that begins earlier")


def _starts(book: PriceBook) -> date:
    return book.effective_from or date.min


def _files(sources: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        found = sorted(source.glob("*.yaml")) if source.is_dir() else [source]
        if not found:
            raise FileProblem([f"{source}: no price books here; put *.yaml files into this folder"])
        files += found
    return files


def _repeated_gpus(document: Document, shape: BookShape) -> list[str]:
    first: dict[str, int] = {}
    problems = []
    for index, entry in enumerate(shape.gpus):
        if entry.gpu in first:
            line = document.place(("gpus", first[entry.gpu])).rpartition(":")[2]
            text = f"{entry.gpu} has a price already, on line {line}; keep one, or put a later price into a later book"
            problems.append(document.problem(("gpus", index, "gpu"), text))
        first.setdefault(entry.gpu, index)
    return problems


def _clashes(books: list[PriceBook]) -> list[str]:
    """Two books under one id, and two prices for one GPU from one day in one series."""
    problems = []
    for index, book in enumerate(books):
        for other in books[:index]:
            if book.id == other.id:
                problems.append(f"{book.path}:1: book id '{book.id}' is taken by {other.path}; give it another")
            elif (book.series, book.effective_from) == (other.series, other.effective_from):
                problems += [
                    f"{book.gpus[gpu].place}: {gpu} has two prices from {book.effective_from or 'the beginning'} in"
                    f" series '{book.series}', the other is {other.gpus[gpu].place}; change effective_from of one"
                    for gpu in book.gpus
                    if gpu in other.gpus
                ]
    return problems


def _gpu(document: Document, index: int, entry: GpuShape) -> GpuPrice:
    stated, per = entry.stated()
    also = entry.also_stated_usd_per_hour
    return GpuPrice(
        gpu=entry.gpu,
        nusd_per_h=entry.nusd_per_h(),
        stated=stated,
        per=per,
        place=document.place(("gpus", index)),
        source_says=entry.source_says,
        also_stated_nusd_per_h=None if also is None else parse_usd(also),
        note=entry.note,
    )


def _resource(shape: ResourceShape, units: int) -> ResourcePrice:
    return ResourcePrice(shape.billing, shape.nusd_per_h() * units)


def _thousandths(multiplier: Decimal | None) -> int | None:
    return None if multiplier is None else int(multiplier * THOUSANDTHS)
