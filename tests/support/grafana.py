"""The shipped dashboard for Grafana, as what its panels ask of Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from router.alerts import GRAFANA

DOCUMENT: Final[dict[str, Any]] = json.loads(GRAFANA.read_text(encoding="utf-8"))
PANELS: Final[list[dict[str, Any]]] = [panel for panel in DOCUMENT["panels"] if panel["type"] != "row"]
VARIABLES: Final = {"$__rate_interval": "5m", "$__range": "1h", "$job": ".*", "$instance": ".*"}
_SELECTOR: Final = re.compile(r"\b((?:sluice|gen_ai)_\w+)(?:\{([^}]*)\})?")
_BY: Final = re.compile(r"by \(([^)]*)\)")
_LABEL: Final = re.compile(r"(\w+) *(?:=~|!~|!=|=)")
SUFFIXES: Final = ("_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Query:
    """`expr` is what Prometheus is asked once Grafana has filled in its variables."""

    panel: str
    name: str
    expr: str
    legend: str

    @property
    def selectors(self) -> Iterator[tuple[str, set[str]]]:
        """Each metric that it names, without the suffix of a histogram's series, and the labels that it filters by."""
        for name, filters in _SELECTOR.findall(_BY.sub("", self.expr)):
            yield re.sub(f"({'|'.join(SUFFIXES)})$", "", name), set(_LABEL.findall(filters))

    @property
    def grouped_by(self) -> set[str]:
        return {label for listed in _BY.findall(self.expr) for label in re.split(r", *", listed)}

    @property
    def shown(self) -> set[str]:
        """Labels that its legend names."""
        return set(re.findall(r"\{\{(\w+)\}\}", self.legend))


def queries() -> list[Query]:
    return [
        Query(panel["title"], f"panel_{panel['id']}_{target['refId']}", _filled(target["expr"]), target["legendFormat"])
        for panel in PANELS
        for target in panel["targets"]
    ]


def _filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr
