"""What one container of a pool costs per hour, put together from a price book's GPU, CPU and memory rates; or what its
tokens cost, where a provider bills those.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pricing.book import THOUSANDTHS, PriceBook, ResourcePrice
from pricing.book_schema import ResourceBilling
from pricing.errors import UnknownPrice
from pricing.money import half_even_nusd
from pricing.token_price import TokenPrice


@dataclass(frozen=True, slots=True)
class ContainerRate:
    """Rate of one container of a pool, nano-dollars per hour, multipliers already applied to each part.

    `nusd_per_h` is the sum of the three parts. `notes` says what the book does not state (and is counted 0),
    `not_applied` what it states and meters do not follow. `tokens` is set for pools that are billed by the token; their
    time costs nothing, so that all parts are 0.
    """

    nusd_per_h: int
    gpu_nusd_per_h: int
    cpu_nusd_per_h: int
    memory_nusd_per_h: int
    book: str
    notes: tuple[str, ...] = ()
    tokens: TokenPrice | None = None
    not_applied: tuple[str, ...] = ()


def token_rate(book: PriceBook, model: str) -> ContainerRate:
    """The rate of a pool that is billed by the token. Raises UnknownPrice for a model that the book does not list."""
    return ContainerRate(0, 0, 0, 0, book.id, tokens=book.token_price(model))


def container_rate(
    book: PriceBook,
    gpu: str,
    gpu_count: int,
    cpu_cores: float,
    memory_gib: float,
    region: str | None = None,
    *,
    nonpreemptible: bool = False,
) -> ContainerRate:
    """(GPU × count + cores × core rate + GiB × memory rate) × region multiplier, each part rounded half to even.

    `cpu_cores` are physical cores. `nonpreemptible` multiplies CPU and memory only. Raises UnknownPrice for a GPU,
    region or multiplier that the book does not list, and ValueError for less than one GPU or a negative amount.
    """
    if gpu_count < 1:
        raise ValueError(f"no container: {gpu_count} GPUs, {cpu_cores} cores, {memory_gib} GiB")
    gpus_nusd_per_h = book.gpu_price(gpu).nusd_per_h * gpu_count
    return _rate(book, gpus_nusd_per_h, cpu_cores, memory_gib, region, nonpreemptible=nonpreemptible)


def plain_container_rate(
    book: PriceBook, cpu_cores: float, memory_gib: float, region: str | None = None, *, nonpreemptible: bool = False
) -> ContainerRate:
    """The same of a container without a GPU. Raises UnknownPrice for a region or multiplier that is not listed, and
    ValueError for a negative amount.
    """
    return _rate(book, 0, cpu_cores, memory_gib, region, nonpreemptible=nonpreemptible)


def _rate(
    book: PriceBook,
    gpus_nusd_per_h: int,
    cpu_cores: float,
    memory_gib: float,
    region: str | None,
    *,
    nonpreemptible: bool,
) -> ContainerRate:
    if cpu_cores < 0 or memory_gib < 0:
        raise ValueError(f"no container: {cpu_cores} cores, {memory_gib} GiB")
    region_factor = Fraction(book.region_multiplier_thousandths(region), THOUSANDTHS)
    resource_factor = region_factor * (_nonpreemptible(book) if nonpreemptible else 1)
    gpus_nusd = _rounded(gpus_nusd_per_h * region_factor)
    cpu_nusd = _rounded(book.cpu.nusd_per_h * Fraction(str(cpu_cores)) * resource_factor)
    memory_nusd = _rounded(book.memory.nusd_per_h * Fraction(str(memory_gib)) * resource_factor)
    return ContainerRate(
        nusd_per_h=gpus_nusd + cpu_nusd + memory_nusd,
        gpu_nusd_per_h=gpus_nusd,
        cpu_nusd_per_h=cpu_nusd,
        memory_nusd_per_h=memory_nusd,
        book=book.id,
        notes=tuple(_unstated(book)),
        not_applied=not_applied(book),
    )


def _rounded(rate: Fraction) -> int:
    return half_even_nusd(rate.numerator, rate.denominator)


def _nonpreemptible(book: PriceBook) -> Fraction:
    if book.nonpreemptible_thousandths is None:
        raise UnknownPrice(f"book '{book.id}' states no nonpreemptible_multiplier; add it to {book.path}")
    return Fraction(book.nonpreemptible_thousandths, THOUSANDTHS)


def not_applied(book: PriceBook) -> tuple[str, ...]:
    """What a book of container time states of its bill and meters do not follow: they count every microsecond of a
    container, from its start to its end, at its rate.
    """
    if not book.gpus:
        return ()
    billed = {
        "pulling images": book.bills_image_pull,
        "model init": book.bills_model_init,
        "the idle tail": book.bills_idle_tail,
    }
    said = [f"{phase} is not billed" for phase, is_billed in billed.items() if is_billed is False]
    if book.min_increment_s:
        said.append(f"billed time is rounded up to {book.min_increment_s:f} s")
    return tuple(f"book '{book.id}' says that {one}, which is shown and not applied" for one in said)


def _unstated(book: PriceBook) -> list[str]:
    parts: tuple[tuple[str, ResourcePrice], ...] = (("CPU", book.cpu), ("memory", book.memory))
    return [
        f"book '{book.id}' does not state what {name} costs: counted 0"
        for name, price in parts
        if price.billing is ResourceBilling.NOT_STATED
    ]
