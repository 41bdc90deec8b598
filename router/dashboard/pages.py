"""Templates and files of the dashboard, read once from the package; pages as HTML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from router.dashboard.patience import PENDING
from router.dashboard.words import FILTERS

STATIC: Final = "/dashboard/static/"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages refer to. `digest` is in its address, so that browsers may keep it for good."""

    content: bytes
    media_type: str
    digest: str


@cache
def assets() -> Mapping[str, Asset]:
    """By path below `static/`."""
    found = {}
    root = resources.files("router.dashboard") / "static"
    for folder, prefix in ((root, ""), (root / "vendor", "vendor/")):
        for file in folder.iterdir():
            kind = file.name.rpartition(".")[2]
            if file.is_file() and kind in _TYPES:
                content = file.read_bytes()
                found[prefix + file.name] = Asset(content, _TYPES[kind], hashlib.sha256(content).hexdigest()[:12])
    return found


@cache
def _environment() -> Environment:
    """Everything is escaped; a name that no page was given is an error."""
    environment = Environment(
        loader=PackageLoader("router.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(asset=_address, pending=PENDING)
    return environment


def _address(name: str) -> str:
    return f"{STATIC}{name}?v={assets()[name].digest}"


def prepare() -> None:
    """Read and compile everything, so that the first page does not do it while requests are served."""
    assets()
    for name in _environment().list_templates():
        _environment().get_template(name)


def render(template: str, **values: Any) -> str:
    """A page."""
    return _environment().get_template(template).render(**values)


def feed_row(decision: Mapping[str, Any], *, admin: bool) -> str:
    """One row of the feed, as the page has it."""
    macros = _environment().get_template("macros.html").module
    row: str = str(macros.feed_row(decision, admin))  # type: ignore[attr-defined] # a macro of the template
    return row
