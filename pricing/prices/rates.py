"""What one container of a pool costs per hour, put together from a price book's GPU, CPU and memory rates, and in which
phases of its life; or what its tokens cost, where a provider bills those.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pricing.clock import US_PER_S
from pricing.errors import UnknownPrice
from pricing.money import cost_nusd, half_even_nusd
from pricing.prices.billed import ALL_BILLED, Billed
from pricing.prices.book import THOUSANDTHS, PriceBook, ResourcePrice
from pricing.prices.schema import ResourceBilling
from pricing.prices.token_price import TokenPrice


@dataclass(frozen=True, slots=True)
class ContainerRate:
    """Rate of one container of a pool, nano-dollars per hour, multipliers already applied to each part.

    `nusd_per_h` is the sum of the three parts, and what busy time costs; `billed` says whether boot and idle time do.
    A container's billed time is rounded up to a multiple of `increment_us`, microseconds, unless that is 0.
    `notes` says what the book does not state and how that is counted, `not_billed` what it says is free, `not_applied`
    what it states and meters do not follow. `tokens` is set for pools that are billed by the token; their time costs
    nothing, so that all parts are 0. `provider` sells it, as `product`.
    """

    nusd_per_h: int
    gpu_nusd_per_h: int
    cpu_nusd_per_h: int
    memory_nusd_per_h: int
    book: str
    notes: tuple[str, ...] = ()
    tokens: TokenPrice | None = None
    billed: Billed = ALL_BILLED
    increment_us: int = 0
    not_billed: tuple[str, ...] = ()
    not_applied: tuple[str, ...] = ()
    provider: str = ""
    product: str = ""

    @property
    def boot_nusd_per_h(self) -> int:
        return self.nusd_per_h if self.billed.boot else 0

    def cost_nusd(self, *, boot_us: int = 0, busy_us: int = 0, idle_us: int = 0) -> int:
        """What the provider asks for container time, rounded half to even once."""
        billed_us = busy_us + (boot_us if self.billed.boot else 0) + (idle_us if self.billed.idle else 0)
        return cost_nusd(self.nusd_per_h, billed_us)

    def rounding_us(self, boot_us: int, ready_us: int) -> int:
        """What a container is billed for beyond the time that it booted and was ready."""
        if not self.increment_us:
            return 0
        return -(ready_us + (boot_us if self.billed.boot else 0)) % self.increment_us


def token_rate(book: PriceBook, model: str) -> ContainerRate:
    """The rate of a pool that is billed by the token. Raises UnknownPrice for a model that the book does not list."""
    return ContainerRate(
        0, 0, 0, 0, book.id, tokens=book.token_price(model), provider=book.provider, product=book.product
    )


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
        notes=(*_unstated(book), *_unstated_phases(book)),
        billed=billed_phases(book),
        increment_us=_increment_us(book),
        not_billed=not_billed(book),
        not_applied=not_applied(book),
        provider=book.provider,
        product=book.product,
    )


def _rounded(rate: Fraction) -> int:
    return half_even_nusd(rate.numerator, rate.denominator)


def _nonpreemptible(book: PriceBook) -> Fraction:
    if book.nonpreemptible_thousandths is None:
        raise UnknownPrice(f"book '{book.id}' states no nonpreemptible_multiplier; add it to {book.path}")
    return Fraction(book.nonpreemptible_thousandths, THOUSANDTHS)


def billed_phases(book: PriceBook) -> Billed:
    """What meters go by. What the source does not state is billed.

    A boot is the image's pull and the model's init in one: no platform says when the one ended. So it is free only
    where the book bills neither, and billed whole where it bills either.
    """
    return Billed(
        boot=not (book.bills_image_pull is False and book.bills_model_init is False),
        idle=book.bills_idle_tail is not False,
    )


def _increment_us(book: PriceBook) -> int:
    """0 where idle time is free: what is billed is then no one stretch of a container's life."""
    if book.min_increment_s is None or not billed_phases(book).idle:
        return 0
    return int((book.min_increment_s * US_PER_S).to_integral_value())


def not_billed(book: PriceBook) -> tuple[str, ...]:
    """Phases that cost nothing in a book of container time, as sentences."""
    if not book.gpus:
        return ()
    free = billed_phases(book).free
    return tuple(f"book '{book.id}' says that {phase} time is not billed: it costs 0" for phase in free)


def not_applied(book: PriceBook) -> tuple[str, ...]:
    """What a book of container time states of its bill and meters do not follow, as sentences."""
    if not book.gpus:
        return ()
    said = []
    if billed_phases(book).boot:
        parts = {"pulling images": book.bills_image_pull, "model init": book.bills_model_init}
        said += [f"{part} is not billed" for part, is_billed in parts.items() if is_billed is False]
    if book.min_increment_s and not _increment_us(book):
        said.append(f"billed time is rounded up to {book.min_increment_s:f} s")
    return tuple(f"book '{book.id}' says that {one}, which is shown and not applied" for one in said)


def _unstated(book: PriceBook) -> list[str]:
    parts: tuple[tuple[str, ResourcePrice], ...] = (("CPU", book.cpu), ("memory", book.memory))
    return [
        f"book '{book.id}' does not state what {name} costs: counted 0"
        for name, price in parts
        if price.billing is ResourceBilling.NOT_STATED
    ]


def _unstated_phases(book: PriceBook) -> list[str]:
    flags = {
        "pulling images": book.bills_image_pull,
        "model init": book.bills_model_init,
        "idle time": book.bills_idle_tail,
    }
    return [
        f"book '{book.id}' does not state whether {name} is billed: counted as billed"
        for name, is_billed in flags.items()
        if is_billed is None
    ]
