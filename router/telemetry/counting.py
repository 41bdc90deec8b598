"""Counters and histograms that are counted on the event loop, and written out when somebody scrapes.

A request is counted in about fifteen places, and requests wait while a page is written. The client library takes a lock
for each count and 8 µs for each line: a request cost 5 µs with half as many metrics, and the histograms of two dozen
pools in two classes would stop an endpoint for 30 ms with every scrape. Here a counter is an entry of a dict, a
histogram a list of integers, a request costs 2.5 µs and a line less than half of one (on a core of an AMD EPYC).
Amounts are integers in a small unit (nano-dollars, microseconds), so that sums stay exact; `per` of them make one of
the unit in the metric's name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence

Labels = tuple[Hashable, ...]
"""Values in the order of a metric's labels; None is told as an empty label, which Prometheus takes for none."""


class _Named:
    """What counters and histograms have in common: a name, a text, and how labels are written."""

    def __init__(self, name: str, text: str, labels: Sequence[str], per: int) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._text = text
        self._per = per
        self._written: dict[Labels, str] = {}

    def _head(self, kind: str) -> Iterator[str]:
        yield f"# HELP {self.name} {self._text}\n"
        yield f"# TYPE {self.name} {kind}\n"

    def _write(self, labels: Labels) -> str:
        """`name="value"` pairs, by name, without braces."""
        written = self._written.get(labels)
        if written is None:
            pairs = sorted(zip(self.labels, labels, strict=True))
            written = self._written[labels] = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
        return written


class Counts(_Named):
    """A counter per set of labels, each of which may be new. Not thread-safe."""

    def __init__(self, name: str, text: str, labels: Sequence[str], *, per: int = 1) -> None:
        super().__init__(name, text, labels, per)
        self._sums: dict[Labels, int] = {}

    def add(self, labels: Labels, amount: int = 1) -> None:
        """`amount` is 0 or more."""
        self._sums[labels] = self._sums.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        """In the text format, sums as they are now."""
        yield from self._head("counter")
        for labels, total in self._sums.items():
            yield f"{self.name}{{{self._write(labels)}}} {total / self._per}\n"


class Spread:
    """How often amounts fell into each bucket of one set of labels."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def observe(self, amount: int) -> None:
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.total += amount


class Spreads(_Named):
    """A histogram per set of labels. `bounds` are upper bounds in the unit of the name, rising. Not thread-safe."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], *, per: int = 1) -> None:
        super().__init__(name, text, labels, per)
        self._bounds = tuple(round(bound * per) for bound in bounds)
        self._les = (*(str(float(bound)) for bound in bounds), "+Inf")
        self._spreads: dict[Labels, Spread] = {}

    def of(self, *labels: Hashable) -> Spread:
        """The spread of one set of labels; it stays the same, so that who observes often may keep it."""
        found = self._spreads.get(labels)
        if found is None:
            found = self._spreads[labels] = Spread(self._bounds)
        return found

    def lines(self) -> Iterator[str]:
        """In the text format, as they are now; sets of labels that nothing was observed of are left out."""
        yield from self._head("histogram")
        for labels, spread in self._spreads.items():
            if not any(spread.counts):
                continue
            written, seen = self._write(labels), 0
            for le, count in zip(self._les, spread.counts, strict=True):
                seen += count
                yield f'{self.name}_bucket{{{written},le="{le}"}} {seen}.0\n'
            yield f"{self.name}_count{{{written}}} {seen}.0\n"
            yield f"{self.name}_sum{{{written}}} {spread.total / self._per}\n"


def _escaped(value: Hashable) -> str:
    text = "" if value is None else str(value)
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
