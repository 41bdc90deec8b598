"""Plots of a report as inline SVG: bars for groups and pools, columns for time. Computes shapes, no figures.

Text is HTML around the shapes, whose places are per cent: so a plot is read at phone width as on a desk, and it prints,
which backgrounds of CSS do not by themselves. Every figure of a plot stands in a table of the page as well, so that it
is one picture with a name to a screen reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 8  # of the page's style: classes c0 to c7
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, nano-dollars of each series, and the text at its end."""

    name: str
    parts: tuple[int, ...]
    text: str


def bars(title: str, series: Sequence[str], found: Sequence[Bar]) -> str:
    """Horizontal bars on one scale, each made of its series; those without a name are empty.

    Amounts below 0 have no length; tables show them.
    """
    longest = max((sum(max(0, part) for part in bar.parts) for bar in found), default=0)
    if not longest:
        return ""
    rows = "".join(
        f'<div class="bar"><span class="name">{escape(bar.name)}</span>'
        f'<svg height="16" width="100%">{_along(bar.parts, longest)}</svg><span class="amount">{bar.text}</span></div>'
        for bar in found
    )
    return _figure(
        title, series, f'<div class="bars">{rows}</div>', ", ".join(f"{bar.name} {bar.text}" for bar in found)
    )


def columns(title: str, series: Sequence[str], found: Sequence[Bar], usd: Callable[[int], str]) -> str:
    """One column for each moment, from left to right, each made of its series."""
    highest = max((sum(max(0, part) for part in bar.parts) for bar in found), default=0)
    if not highest:
        return ""
    wide = 100 / len(found)
    shapes = "".join(_up(bar, index * wide, wide, highest) for index, bar in enumerate(found))
    first, middle, last = found[0].name, found[len(found) // 2].name, found[-1].name
    ticks = [first, middle, last] if len(found) > 2 else [bar.name for bar in found]
    body = (
        f'<div class="columns"><span class="top">{usd(highest)}</span>'
        f'<svg height="180" width="100%">{shapes}</svg>'
        f'<div class="ticks">{"".join(f"<span>{escape(tick)}</span>" for tick in ticks)}</div></div>'
    )
    return _figure(title, series, body, f"from {first} to {last}, at most {usd(highest)}")


def _along(parts: Iterable[int], longest: int) -> str:
    begin, shapes = 0.0, []
    for index, part in enumerate(parts):
        width = 100 * max(0, part) / longest
        if width:
            shapes.append(_rect(index, begin, 0, width, 100))
        begin += width
    return "".join(shapes)


def _up(bar: Bar, left: float, wide: float, highest: int) -> str:
    floor, shapes = 100.0, []
    for index, part in enumerate(bar.parts):
        height = 100 * max(0, part) / highest
        if height:
            floor -= height
            shapes.append(_rect(index, left + wide * 0.08, floor, wide * 0.84, height))
    return f"<g><title>{escape(bar.name)}: {bar.text}</title>{''.join(shapes)}</g>"


def _rect(index: int, x: float, y: float, width: float, height: float) -> str:
    place = f'x="{x:.4g}%" y="{y:.4g}%" width="{width:.4g}%" height="{height:.4g}%"'
    return f'<rect class="c{index % COLOURS}" {place}/>'


def _figure(title: str, series: Sequence[str], body: str, said: str) -> str:
    legend = (
        ""
        if len(series) < 2
        else "".join(
            f'<span><svg width="12" height="12"><rect class="c{index % COLOURS}" width="12" height="12"/></svg> '
            f"{escape(name)}</span>"
            for index, name in enumerate(series)
            if name
        )
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<div class="legend" aria-hidden="true">{legend}</div>'
        f'<div role="img" aria-label="{escape(f"{title}: {said}")}">{body}</div></figure>'
    )
