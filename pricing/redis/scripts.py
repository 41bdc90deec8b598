"""Lua scripts, put together from files in `lua/`: a script, and before it the fragments that it uses.

The first lines of a file may name fragments: `-- uses: clock windows`. Each comes once, before whoever uses it. The
server knows a script by the SHA1 of its text, so replicas of different versions run their own side by side.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "lua"
_USES: Final = re.compile(r"^-- uses: ([a-z_ ]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step. `sha` is what EVALSHA wants: the text's SHA1 in hex."""

    name: str
    text: bytes = field(repr=False)
    sha: bytes


@cache
def script(name: str) -> Script:
    """The script `lua/<name>.lua` with its fragments. Raises FileNotFoundError, and ValueError where fragments use
    each other in a circle.
    """
    texts: dict[str, str] = {}
    _collect(name, texts, ())
    return script_of(name, "\n".join(texts.values()).encode())


def script_of(name: str, text: bytes) -> Script:
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _collect(name: str, texts: dict[str, str], users: tuple[str, ...]) -> None:
    """Add a file's text behind those of the fragments that it uses."""
    if name in users:
        raise ValueError(f"{FOLDER / name}.lua: fragments use each other in a circle: {' > '.join((*users, name))}")
    if name in texts:
        return
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    for line in _USES.findall(text):
        for fragment in line.split():
            _collect(fragment, texts, (*users, name))
    texts[name] = text
