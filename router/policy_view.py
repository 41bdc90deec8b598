"""The policy in force as `GET /v1/policy` shows it: its files, since when, and what changed from the one before."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from policies.hide import hide_secrets
from policies.reload import Edition, ReloadState
from pricing.clock import US_PER_S


def policy_json(edition: Edition, last: Edition | None, state: ReloadState) -> dict[str, Any]:
    """Instants are seconds since the epoch. `previous` is null until the files change while the process runs.

    Texts show no secrets (`policies.hide`); a change that only they would show has an empty `diff`.
    """
    return {
        "object": "policy",
        "version": edition.version,
        "price_book": edition.price_book,
        "loaded_at": edition.loaded_us / US_PER_S,
        "checked_at": state.checked_us / US_PER_S,
        "problems": list(state.last_error),
        "files": [_file(name, text) for name, text in edition.texts.items()],
        "previous": None
        if last is None
        else {"version": last.version, "price_book": last.price_book, "loaded_at": last.loaded_us / US_PER_S},
        "changes": [] if last is None else list(_changes(last.texts, edition.texts)),
    }


def _file(name: str, text: str | None) -> dict[str, Any]:
    """`sha256` is that of the file as it is, so that two replicas' can be compared."""
    digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()
    return {"name": name, "lines": None if text is None else len(text.splitlines()), "sha256": digest}


def _changes(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield _change(name, "removed", old[name], "")
        elif name not in old:
            yield _change(name, "added", "", new[name])
        elif old[name] != new[name]:
            yield _change(name, "changed", old[name], new[name])


def _change(name: str, change: str, old: str | None, new: str | None) -> dict[str, Any]:
    """`diff` is unified; null where a text is none that can be shown."""
    diff = None if old is None or new is None else _diff(name, hide_secrets(old), hide_secrets(new))
    return {"file": name, "change": change, "diff": diff}


def _diff(name: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, name, lineterm="")
    return "".join(f"{line}\n" for line in lines)
