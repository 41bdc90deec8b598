"""What is said to have changed between two policies."""

from __future__ import annotations

from hashlib import sha256

from pricing.ledger.policy_history import PolicyFile
from router.views.policy_view import changes_json


def file(name: str, text: str) -> PolicyFile:
    return PolicyFile(name, text, sha256(text.encode()).hexdigest())


def changed(old: list[PolicyFile], new: list[PolicyFile]) -> list[tuple[str, str]]:
    return [(each["file"], each["change"]) for each in changes_json(old, new) or []]


def test_a_folder_that_moved_is_no_change() -> None:
    """A deployment mounts the same files elsewhere: what differs is the text, shown under the name that it has now."""
    old = [file("/old/policy.yaml", "a\n"), file("/old/tenants.yaml", "b\n")]
    new = [file("/new/policy.yaml", "a\n"), file("/new/tenants.yaml", "c\n")]
    [change] = changes_json(old, new) or []
    assert (change["file"], change["change"]) == ("/new/tenants.yaml", "changed")
    assert change["diff"].splitlines()[-2:] == ["-b", "+c"]
    assert changed(old[:1], new[:1]) == []


def test_files_of_one_name_in_several_folders_are_not_taken_for_each_other() -> None:
    """Nobody could say which became which: they are removed and added; those that stayed are what they were."""
    stayed = file("kept/policy.yaml", "a\n")
    old = [stayed, file("x/pools.yaml", "x\n"), file("y/pools.yaml", "y\n")]
    assert changed(old, [stayed, file("z/pools.yaml", "x\n")]) == [
        ("x/pools.yaml", "removed"),
        ("y/pools.yaml", "removed"),
        ("z/pools.yaml", "added"),
    ]
    assert changed([stayed], [stayed, file("z/policy.yaml", "z\n")]) == [("z/policy.yaml", "added")]


def test_versions_whose_files_are_not_kept_cannot_be_compared() -> None:
    """None, which is not the same as no change."""
    assert changes_json(None, [file("policy.yaml", "a\n")]) is None
