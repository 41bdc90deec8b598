"""The table of metrics in docs/metrics.md."""

from __future__ import annotations

from typing import Final, NamedTuple

from support.repository import ROOT

PAGE: Final = ROOT / "docs" / "metrics.md"
OF_REPLICAS: Final = "with replicas: "
OF_TENANTS: Final = ("where [asked for]", "where asked for")


class Row(NamedTuple):
    kind: str
    labels: frozenset[str]
    text: str


def _rows() -> dict[str, Row]:
    found = {}
    for line in PAGE.read_text(encoding="utf-8").partition("\n## ")[0].splitlines():
        if line.startswith("| `"):
            name, kind, labels, text = (cell.strip() for cell in line.strip("|").split("|"))
            found[name.strip("`")] = Row(kind, frozenset(labels.split(", ") if labels else ()), text)
    return found


METRICS: Final = _rows()
"""By the name that stands in a scrape."""
