"""Price books: dated, sourced prices of GPU time, read from YAML files that people edit.

A book never answers with a default: what it does not list raises `UnknownPrice`, which names the file to edit. Rates
are integer nano-dollars per hour, whatever unit the source states; multipliers are integer thousandths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from pricing.errors import FileProblem, UnknownGpu, UnknownPrice
from pricing.files.document import Document, is_folder, read_yaml
from pricing.files.validate import validate
from pricing.money import parse_usd
from pricing.nearest import nearest
from pricing.prices.gpus import canonical_gpu
from pricing.prices.schema import (
    AnyBookShape,
    BookShape,
    GpuShape,
    ResourceBilling,
    ResourceShape,
    TokenBookShape,
    TokenShape,
)
from pricing.prices.token_price import TokenPrice

SHIPPED_FOLDER = Path(__file__).parents[1] / "books"
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
    (00:00 UTC) from which they hold, None when they hold from the beginning; they do until a later book of those that a
    policy names takes over. A billing flag is None where the source does not say. `min_increment_s` is the step to
    which billed time is rounded up.
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
    tokens: Mapping[str, TokenPrice] = field(default_factory=dict)  # by model, as the provider calls it

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

    def token_price(self, model: str) -> TokenPrice:
        """The price of a model's tokens, by the provider's name for it. Raises UnknownPrice."""
        if model not in self.tokens:
            dated = f" (as of {self.as_of})" if self.as_of else ""
            hint = nearest(model, self.tokens)
            raise UnknownPrice(
                f"no price for tokens of '{model}' in book '{self.id}'{dated}{hint}; add it to per_million_tokens in"
                f" {self.path}, or name another book"
            )
        return self.tokens[model]

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
    """Whether a file's data is meant as a price book: it has no `version`, and a provider or a list of prices."""
    if not isinstance(data, Mapping) or "version" in data:
        return False
    return "provider" in data or isinstance(data.get("gpus"), list) or "per_million_tokens" in data


def load_book(path: Path) -> PriceBook:
    """Read one book. Raises FileProblem with file:line for everything that is wrong with it."""
    document = read_yaml(path)
    data = document.data
    if isinstance(data, Mapping) and "per_million_tokens" in data and "gpus" not in data:
        return _token_book(document, validate(document, TokenBookShape))
    shape = validate(document, BookShape)
    models = shape.per_million_tokens
    repeated = [*_repeated_gpus(document, shape), *_repeated_models(document, models)]
    if repeated:
        raise FileProblem(repeated)
    return PriceBook(
        **_stated(document, shape, models),
        bills_image_pull=shape.bills_image_pull,
        bills_model_init=shape.bills_model_init,
        bills_idle_tail=shape.bills_idle_tail,
        min_increment_s=shape.min_increment_s,
        idle_default_s=shape.idle_default_s,
        cpu=_resource(shape.cpu, VCPUS_PER_CORE if shape.cpu.per == "vcpu" else 1),
        memory=_resource(shape.memory, 1),
        region_thousandths={name: int(value * THOUSANDTHS) for name, value in shape.region_multipliers.items()},
        nonpreemptible_thousandths=_thousandths(shape.nonpreemptible_multiplier),
        gpus={entry.gpu: _gpu(document, index, entry) for index, entry in enumerate(shape.gpus)},
    )


def _token_book(document: Document, shape: TokenBookShape) -> PriceBook:
    """A book without containers: whoever asks it for a GPU is told that it has none."""
    repeated = _repeated_models(document, shape.per_million_tokens)
    if repeated:
        raise FileProblem(repeated)
    models, nothing = shape.per_million_tokens, ResourcePrice(ResourceBilling.INCLUDED, 0)
    return PriceBook(
        **_stated(document, shape, models),
        bills_image_pull=False,
        bills_model_init=False,
        bills_idle_tail=False,
        min_increment_s=None,
        idle_default_s=None,
        cpu=nothing,
        memory=nothing,
        region_thousandths={},
        nonpreemptible_thousandths=None,
        gpus={},
    )


def _stated(document: Document, shape: AnyBookShape, models: list[TokenShape]) -> dict[str, Any]:
    """What every book states, as arguments of `PriceBook`."""
    return {
        **shape.model_dump(include={"id", "title", "provider", "product", "source", "as_of", "effective_from"}),
        "series": shape.series or shape.id,
        "currency": shape.currency,
        "notes": tuple(shape.notes),
        "path": document.path,
        "tokens": {entry.model: _token_price(document, index, entry) for index, entry in enumerate(models)},
    }


def _token_price(document: Document, index: int, entry: TokenShape) -> TokenPrice:
    cached = entry.input_usd if entry.cached_input_usd is None else entry.cached_input_usd
    return TokenPrice(
        model=entry.model,
        input_nusd=parse_usd(entry.input_usd),
        output_nusd=parse_usd(entry.output_usd),
        cached_input_nusd=parse_usd(cached),
        place=document.place(("per_million_tokens", index)),
        note=entry.note,
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


def _files(sources: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        found = sorted(source.glob("*.yaml")) if is_folder(source) else [source]
        if not found:
            raise FileProblem([f"{source}:1: no price books here; put *.yaml files into this folder"])
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


def _repeated_models(document: Document, entries: list[TokenShape]) -> list[str]:
    first: dict[str, int] = {}
    problems = []
    for index, entry in enumerate(entries):
        if entry.model in first:
            line = document.place(("per_million_tokens", first[entry.model])).rpartition(":")[2]
            text = (
                f"'{entry.model}' has a price already, on line {line}; keep one, or put a later price in a later book"
            )
            problems.append(document.problem(("per_million_tokens", index, "model"), text))
        first.setdefault(entry.model, index)
    return problems


def _clashes(books: list[PriceBook]) -> list[str]:
    """Two books under one id, and two prices for one GPU or model from one day in one series."""
    problems = []
    for index, book in enumerate(books):
        for other in books[:index]:
            if book.id == other.id:
                problems.append(f"{book.path}:1: book id '{book.id}' is taken by {other.path}; give it another")
            elif (book.series, book.effective_from) == (other.series, other.effective_from):
                problems += [
                    f"{place}: {name} has two prices from {book.effective_from or 'the beginning'} in"
                    f" series '{book.series}', the other is {elsewhere}; change effective_from of one"
                    for name, place, elsewhere in _priced_twice(book, other)
                ]
    return problems


def _priced_twice(book: PriceBook, other: PriceBook) -> Iterable[tuple[str, str, str]]:
    """(GPU or model, its place in the one, in the other)."""
    for mine, theirs in ((book.gpus, other.gpus), (book.tokens, other.tokens)):
        yield from ((name, mine[name].place, theirs[name].place) for name in mine if name in theirs)


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
