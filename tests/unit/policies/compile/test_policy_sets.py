"""Which files make one policy, what they are known by, and the book in force; the shipped ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.files.fileset import SHIPPED_FOLDER
from pricing.clock import US_PER_S
from pricing.errors import FileProblem
from support.choosing import BASE, NOW_US, load, write_policy


def test_a_folder_is_one_set(tmp_path: Path) -> None:
    """Sections of several files add up; hidden files and standalone ones do not count."""
    write_policy(tmp_path, BASE, "a.yaml")
    write_policy(tmp_path, "version: 1\naliases: {gpt: chat}\n", "b.yml")
    write_policy(tmp_path, "version: 1\nstandalone: true\naliases: {gpt: nothing}\n", "c.yaml")
    write_policy(tmp_path, "not: [a policy", ".d.yaml")
    policy = load(tmp_path)
    assert policy.aliases == {"gpt": "chat"}
    assert [Path(name).name for name in policy.files[:2]] == ["a.yaml", "b.yml"]


def test_one_key_in_two_files_names_both_places(tmp_path: Path) -> None:
    """Neither file wins over the other."""
    first = write_policy(tmp_path, BASE, "a.yaml")
    second = write_policy(
        tmp_path, "version: 1\nclasses:\n  chat: {ladder: {premium: [qwen3-4b-bf16-a10]}}\n", "b.yaml"
    )
    with pytest.raises(FileProblem) as raised:
        load(tmp_path)
    assert raised.value.problems == [f"{second}:3: 'classes.chat' stands at {first}:4 already; keep one of the two"]


def test_the_version_is_the_content(tmp_path: Path) -> None:
    """The same content elsewhere has the same version; any change, and another book, has another."""
    (tmp_path / "elsewhere").mkdir()
    version = load(write_policy(tmp_path, BASE)).version
    assert load(write_policy(tmp_path / "elsewhere", BASE, "other.yaml")).version == version
    assert load(write_policy(tmp_path, BASE + "# a comment\n")).version != version
    assert len(version) == 12


def test_a_later_price_book_is_announced_and_then_in_force(tmp_path: Path) -> None:
    """Of two books in a row the later one is a rate change until its day, and the book in force from then on."""
    text = (SHIPPED_FOLDER.parent.parent / "pricing" / "books" / "modal-2026-10.yaml").read_text(encoding="utf-8")
    text = text.replace("id: modal-2026-10", "id: modal-later").replace(
        "effective_from: null", "effective_from: 2026-06-01"
    )
    write_policy(tmp_path, text.replace("{gpu: T4, usd_per_hour: 0.59}", "{gpu: T4, usd_per_hour: 0.40}"), "book.txt")
    path = write_policy(
        tmp_path, BASE.replace("modal-2026-10", "[modal-2026-10, modal-later]") + "price_books: [book.txt]\n"
    )
    before = load(path)
    [change] = before.rate_changes
    assert (before.price_book, change.book, change.at_us) == ("modal-2026-10", "modal-later", 1_780_272_000 * US_PER_S)
    assert change.rates["qwen3-4b-fp16-t4"].gpu_nusd_per_h == 400_000_000
    after = load_policy([path], environ={}, now_us=change.at_us)
    assert (after.price_book, after.rate_changes) == ("modal-later", ())
    assert after.version != before.version


@pytest.mark.parametrize("path", sorted(SHIPPED_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_policies_load_and_hold_no_keys(path: Path) -> None:
    """Each shipped file is right by itself, and nobody can log in with it."""
    policy = load(path)
    assert (dict(policy.tenants), dict(policy.keys), policy.caps.caps) == ({}, {}, ())


def test_no_path_means_the_shipped_default() -> None:
    """Without any path there is a policy with all classes of the catalogue."""
    policy = load_policy([], environ={}, now_us=NOW_US)
    assert {"chat", "code", "vision"} <= set(policy.classes)
    assert len(policy.pools) == 30


@pytest.mark.parametrize("inside", [False, True])
def test_what_can_be_read_only_once_is_refused(tmp_path: Path, inside: bool) -> None:
    """A pipe, named or found in a folder: it would wait for a writer, or be empty the second time."""
    pipe = tmp_path / "policy.yaml"
    os.mkfifo(pipe)
    with pytest.raises(FileProblem) as raised:
        load(tmp_path if inside else pipe)
    assert raised.value.problems == [f"{pipe}:1: is a pipe or a device; write what it says into a file"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    """By itself and with its folder: no key of it stands twice."""
    path = write_policy(tmp_path, BASE)
    policy = load_policy([path, tmp_path, path], environ={}, now_us=NOW_US)
    assert policy.version == load(path).version


def test_a_path_that_does_not_exist_says_so(tmp_path: Path) -> None:
    """A missing file and an empty folder are problems of that path."""
    with pytest.raises(FileProblem, match="cannot read this file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(FileProblem, match="no policy files here"):
        load(tmp_path)
