"""How `sluice prices` draws books and figures: rich tables of at most 100 columns; nothing is computed here."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pricing.money import format_usd
from pricing.prices.book import GpuPrice, PriceBook, ResourcePrice
from pricing.prices.compare import Disagreement, Pair
from pricing.prices.rates import not_applied, not_billed
from pricing.prices.scenarios import Figure, Finding, Scenario, Unit
from pricing.prices.schema import ResourceBilling

WIDTH = 100


def console() -> Console:
    """A terminal's own width up to 100 columns; 100 and no colour where there is no terminal."""
    screen = Console(highlight=False)
    screen.width = min(screen.width, WIDTH) if screen.is_terminal else WIDTH
    return screen


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def hourly(nusd_per_h: int | None) -> str:
    """Dollars to the cent, or to four decimals where there are more: `0.59`, `0.5904`; a dash where there is none."""
    if nusd_per_h is None:
        return "–"
    text = format_usd(nusd_per_h, 4).removeprefix("$")
    return text.removesuffix("00")


def times(ratio: Fraction | None) -> str:
    return "–" if ratio is None else f"{float(ratio):.2f}×"


def _flag(flag: bool | None) -> str:
    return {True: "yes", False: "no", None: "not stated, counted as billed"}[flag]


def _seconds(value: Decimal | None) -> str:
    return "not stated" if value is None else f"{value:f} s"


def resource(price: ResourcePrice, unit: str) -> str:
    """How CPU or memory is billed, in words."""
    if price.billing is ResourceBilling.SEPARATE:
        return f"{hourly(price.nusd_per_h)} $/h a {unit}, on top"
    if price.billing is ResourceBilling.INCLUDED:
        return "in the GPU's price"
    return "not stated, counted 0"


def books_table(books: list[PriceBook]) -> RenderableType:
    table = _table("book", "provider, product", "as of", "GPUs", "CPU, memory", right=("GPUs",))
    for book in books:
        billing = {str(part.billing).replace("_", " ") for part in (book.cpu, book.memory)}
        resources = ", ".join(sorted(billing)) if book.gpus else f"tokens of {len(book.tokens)} models"
        offer = f"{book.provider}, {book.product}"
        table.add_row(book.id, offer, str(book.as_of or "undated"), str(len(book.gpus)), resources)
    return table


def book_page(book: PriceBook) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    for name, text in (
        ("source", book.source),
        ("as of", str(book.as_of or "undated")),
        ("in force from", str(book.effective_from or "the beginning")),
        ("file", str(book.path)),
        *(_of_containers(book) if book.gpus else ()),
    ):
        facts.add_row(name, Text(text, overflow="fold"))
    notes = [Text(f"Note: {note}") for note in (*book.notes, *not_billed(book), *not_applied(book))]
    tables = [*([_gpu_table(book)] if book.gpus else []), *([_token_table(book)] if book.tokens else [])]
    return Group(Text(f"{book.id}: {book.title}", style="bold"), facts, *tables, *notes)


def _of_containers(book: PriceBook) -> tuple[tuple[str, str], ...]:
    """What a book of container time states; one of tokens alone has nothing of it."""
    return (
        ("CPU", resource(book.cpu, "core")),
        ("memory", resource(book.memory, "GiB")),
        ("bills image pull", _flag(book.bills_image_pull)),
        ("bills model init", _flag(book.bills_model_init)),
        ("bills idle tail", _flag(book.bills_idle_tail)),
        ("rounds time up to", _seconds(book.min_increment_s)),
        ("idle by default", _seconds(book.idle_default_s)),
        ("regions", _regions(book)),
        ("nonpreemptible", _nonpreemptible(book)),
    )


def _token_table(book: PriceBook) -> Table:
    columns = ("input $", "cached $", "output $")
    table = _table("a million tokens of", *columns, "remarks", right=columns)
    for price in book.tokens.values():
        usd = (hourly(price.input_nusd), hourly(price.cached_input_nusd), hourly(price.output_nusd))
        table.add_row(price.model, *usd, price.note)
    return table


def _gpu_table(book: PriceBook) -> Table:
    table = _table("GPU", "$/hour", "stated", "remarks", right=("$/hour", "stated"))
    for price in book.gpus.values():
        stated = f"{price.stated:f} $/s" if price.per == "second" else f"{hourly(price.nusd_per_h)} $/h"
        table.add_row(price.gpu, hourly(price.nusd_per_h), stated, _remarks(price))
    return table


def _remarks(price: GpuPrice) -> str:
    parts = [price.note]
    if price.also_stated_nusd_per_h is not None:
        parts.append(f"also states {hourly(price.also_stated_nusd_per_h)} $/h")
    if price.source_says is not None:
        parts.append(f"called '{price.source_says}' there")
    return "; ".join(part for part in parts if part)


def _regions(book: PriceBook) -> str:
    by_factor: dict[int, list[str]] = {}
    for name, factor in book.region_thousandths.items():
        by_factor.setdefault(factor, []).append(name)
    groups = [f"{_factor(factor)} for {', '.join(names)}" for factor, names in by_factor.items()]
    return "; ".join(groups) or "no multipliers stated"


def _nonpreemptible(book: PriceBook) -> str:
    factor = book.nonpreemptible_thousandths
    return "not stated" if factor is None else f"{_factor(factor)} for CPU and memory"


def _factor(thousandths: int) -> str:
    return f"{Decimal(thousandths) / 1000:f}×"


def comparison(one: PriceBook, other: PriceBook, pairs: tuple[Pair, ...]) -> RenderableType:
    table = _table("GPU", "first $/h", "second $/h", "second/first", right=("first $/h", "second $/h", "second/first"))
    for pair in pairs:
        table.add_row(pair.gpu, hourly(pair.one_nusd_per_h), hourly(pair.other_nusd_per_h), times(pair.ratio))
    for name, unit in (("cpu", "core"), ("memory", "GiB")):
        table.add_row(name, *(resource(getattr(book, name), unit) for book in (one, other)), "")
    head = [
        Text(f"{place:<6} {book.id} ({book.title}, {f'as of {book.as_of}' if book.as_of else 'undated'})")
        for place, book in (("first", one), ("second", other))
    ]
    return Group(*head, table)


def disagreement_table(found: tuple[Disagreement, ...], books: dict[str, PriceBook]) -> RenderableType:
    table = _table("GPU", "$/hour", "stated by (as of)", "oldest, newest", "ratio", right=("$/hour", "ratio"))
    for each in found:
        for index, quoted in enumerate(each.prices):
            names = "\n".join(f"{book} ({books[book].as_of or 'undated'})" for book in quoted.books)
            ends = f"{each.oldest or 'undated'}\n{each.newest or 'undated'}" if index == 0 else ""
            ratio = times(each.ratio) if index == 0 else ""
            table.add_row(each.gpu if index == 0 else "", hourly(quoted.nusd_per_h), names, ends, ratio)
        table.add_section()
    note = "Prices of one provider's product that differ by a cent an hour or more; ratio is highest over lowest."
    return Group(table, Text(note))


def figure(value: Figure | None, decimals: int) -> str:
    """A computed figure with its unit: `$3.06`, `70%`, `2.7×`, `12.5 h`, `0.82–2.46`."""
    if value is None:
        return "–"
    low, high = value.rounded(decimals)
    ends = f"{low:,f}" if low == high else f"{low:,f}–{high:,f}"
    return {
        Unit.USD: f"${ends}",
        Unit.PERCENT: f"{ends}%",
        Unit.RATIO: f"{ends}×",
        Unit.HOURS: f"{ends} h",
        Unit.SECONDS: f"{ends} s",
    }[value.unit]


def scenario_table(scenario: Scenario, today: str) -> RenderableType:
    table = _table("claim", "says", "computed", "verdict", "at list", right=("says", "computed", "at list"))
    section = ""
    for finding in scenario.findings:
        if finding.claim.table != section:
            section = finding.claim.table
            table.add_section()
            table.add_row(Text(section, style="bold"))
        decimals = shown_decimals(finding)
        says = finding.claim.says or "–"
        now = figure(finding.today, decimals)
        table.add_row(_claim(finding), says, figure(finding.computed, decimals), str(finding.verdict), now)
    title = Text(f"{scenario.title} ({scenario.as_of})", style="bold")
    return Group(title, Text(f"computed from {scenario.book}; 'at list' from {today}"), table)


def shown_decimals(finding: Finding) -> int:
    claim = finding.claim
    return claim.decimals if claim.show_decimals is None else claim.show_decimals


def _claim(finding: Finding) -> Text:
    claim = finding.claim
    lines = [claim.claim, claim.reading, claim.remark]
    return Text("\n  ".join(line for line in lines if line))
