"""The lines of policy and price book that would make the ledger count what most hours are billed at.

As YAML: the keys of each pool's row that change, each with its reason; then what a price book lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

from pricing.prices.resources import PricedPool, Resource
from pricing.reconcile.compare import Comparison
from pricing.reconcile.factors import ONE, Factors

NOTHING: Final = "# no factor that most hours share\n"
_KEYS: Final = ((Resource.CPU, "cpu_cores"), (Resource.MEMORY, "memory_gib"))
_THOUSANDTHS: Final = 1000


def edits(found: Comparison, priced: Mapping[str, PricedPool | None]) -> str:
    """The text; a comment where there is nothing to change."""
    rows: list[str] = []
    books: list[str] = []
    for pool, factors in sorted(found.factors.items()):
        known = priced.get(pool)
        rows += [f"  {pool}:", *(f"    {line}" for line in _row(factors, known))]
        books += _book(pool, factors, known)
    return "\n".join(["pools:", *rows, *books, ""]) if rows else NOTHING


def _row(factors: Factors, priced: PricedPool | None) -> Iterator[str]:
    """Keys of a pool's row."""
    if factors.uniform != ONE:
        said = f"everything is billed at {_text(factors.uniform)} of what the ledger counts"
        regions = _regions(factors.uniform, priced)
        if regions:
            others = f"; {', '.join(regions[1:])} cost the same" if regions[1:] else ""
            yield f"region: {regions[0]} # {said}{others}"
        else:
            yield f"# {said}: a region that its price book does not have, see below"
    if factors.gpu != ONE:
        yield f"# its GPU is billed at {_text(factors.gpu)} of the book's price: add a book with the new one"
    if factors.nonpreemptible:
        yield f"# CPU and memory are billed at {_text(factors.cpu)}, as of a container that may not be preempted"
        return
    for resource, key in _KEYS:
        factor = factors.of(resource)
        if factor != ONE and priced is not None:
            now = Fraction(str(getattr(priced, key)))
            said = f"was {float(now):g}, and is billed at {_text(factor)} of that"
            yield f"{key}: {float(now * factor):g} # {said}"
        elif factor != ONE:
            yield f"# {resource} is billed at {_text(factor)} of what its row asked for"


def _book(pool: str, factors: Factors, priced: PricedPool | None) -> Iterator[str]:
    """Keys of a price book, for a multiplier that none of its regions has."""
    if factors.uniform != ONE and not _regions(factors.uniform, priced):
        name = priced.rate.book if priced else "its price book"
        wanted = _text(factors.uniform * _multiplier(priced))
        yield f"# {name}, for {pool}: name the region as the pool's row does"
        yield f"region_multipliers: {{region: {wanted}}}"


def _regions(factor: Fraction, priced: PricedPool | None) -> list[str]:
    """Those of the book that cost as much as is billed."""
    wanted = factor * _multiplier(priced)
    regions = priced.region_thousandths if priced else {}
    return [region for region, thousandths in regions.items() if Fraction(thousandths, _THOUSANDTHS) == wanted]


def _multiplier(priced: PricedPool | None) -> Fraction:
    """What the pool's row has now."""
    if priced is None or priced.region is None:
        return ONE
    return Fraction(priced.region_thousandths.get(priced.region, _THOUSANDTHS), _THOUSANDTHS)


def _text(factor: Fraction) -> str:
    return f"{float(factor):g}"
