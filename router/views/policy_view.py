"""The policy in force as `GET /v1/policy` shows it: its files, since when, and what changed from the one before."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from policies.compile.reload import Edition, ReloadState
from pricing.clock import US_PER_S
from pricing.ledger.policy_history import PolicyFile, PolicyVersion


def policy_json(edition: Edition, before: PolicyVersion | None, state: ReloadState) -> dict[str, Any]:
    """Instants are seconds since the epoch. `previous` is what replicas of this ledger had in force before, null where
    there was nothing, and `changes` null where its files are not kept any more.

    Texts show no secrets (`policies.files.hide`); a change that only they would show has an empty `diff`.
    """
    return {
        "object": "policy",
        "version": edition.version,
        "price_book": edition.price_book,
        "loaded_at": edition.loaded_us / US_PER_S,
        "checked_at": state.checked_us / US_PER_S,
        "problems": list(state.last_error),
        "files": [file_json(file) for file in edition.files],
        "previous": None if before is None else _previous(before),
        "changes": [] if before is None else changes_json(before.files, edition.files),
    }


def file_json(file: PolicyFile) -> dict[str, Any]:
    """`sha256` is that of the file as it is, so that two replicas' can be compared."""
    lines = None if file.text is None else len(file.text.splitlines())
    return {"name": file.name, "lines": lines, "sha256": file.sha256}


def changes_json(old: Sequence[PolicyFile] | None, new: Sequence[PolicyFile] | None) -> list[dict[str, Any]] | None:
    """File by file, with unified diffs; None where one side's files are not kept any more."""
    return None if old is None or new is None else list(_changes(old, new))


def _previous(before: PolicyVersion) -> dict[str, Any]:
    return {
        "version": before.version,
        "price_book": before.price_book,
        "loaded_at": before.latest_us / US_PER_S,
        "replica": before.latest_replica,
    }


def _changes(old: Sequence[PolicyFile], new: Sequence[PolicyFile]) -> Iterator[dict[str, Any]]:
    was, is_now = ({file.name: file for file in files} for files in (old, new))
    was = _as_named_now(was, is_now)
    for name in dict.fromkeys((*was, *is_now)):
        if name not in is_now:
            yield _change(name, "removed", was[name].text, "")
        elif name not in was:
            yield _change(name, "added", "", is_now[name].text)
        elif was[name].sha256 != is_now[name].sha256:
            yield _change(name, "changed", was[name].text, is_now[name].text)


def _as_named_now(was: Mapping[str, PolicyFile], is_now: Mapping[str, PolicyFile]) -> dict[str, PolicyFile]:
    """The old files by the names that they have now: the same files may be mounted elsewhere, which is no change of a
    policy. One that is gone and one that is new are the same where no other of either has that name in its folder.
    """
    gone = {name: PurePath(name).name for name in was if name not in is_now}
    come = {name: PurePath(name).name for name in is_now if name not in was}
    times_gone, times_come = Counter(gone.values()), Counter(come.values())
    moved = {end: name for name, end in come.items() if times_gone[end] == times_come[end] == 1}
    return {moved.get(gone.get(name, ""), name): file for name, file in was.items()}


def _change(name: str, change: str, old: str | None, new: str | None) -> dict[str, Any]:
    """`diff` is unified; null where a text is none that can be shown."""
    return {"file": name, "change": change, "diff": None if old is None or new is None else _diff(name, old, new)}


def _diff(name: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, name, lineterm="")
    return "".join(f"{line}\n" for line in lines)
