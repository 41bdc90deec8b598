"""What a benchmark hands over: a table, and how it stands against its targets. Printed as JSON, written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: `met` compares `measured` with `promised`, both as people read them."""

    what: str
    promised: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's outcome. `about` says what was done, for how long, against what."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target] = ()

    def as_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Raises msgspec.MsgspecError (a ValueError) when the text is no result."""
        return msgspec.json.decode(text, type=cls)

    def as_markdown(self) -> str:
        parts = [f"## {self.title}", self.about, table(self.columns, self.rows)]
        if self.targets:
            rows = [(each.what, each.promised, each.measured, "yes" if each.met else "**no**") for each in self.targets]
            parts.append(table(("target", "promised", "measured", "met"), rows))
        return "\n\n".join(parts)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three significant figures, with separators: what a measurement on a shared machine can bear."""
    if value != value or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
