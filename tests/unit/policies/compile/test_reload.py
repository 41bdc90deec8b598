"""Reload by content: the whole set is swapped as one, and a bad one never replaces a good one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.compile.reload import Reloader
from policies.files.fileset import SHIPPED_FOLDER
from policies.policy import Policy
from pricing.clock import ManualClock
from pricing.errors import FileProblem
from support.choosing import NOW_US, write_policy

CLASSES = "version: 1\nprice_book: modal-2026-10\nclasses: {chat: {ladder: {premium: [qwen3-4b-fp16-t4]}}}\n"
ALIASES = "version: 1\naliases: {gpt: chat}\n"


class Heard:
    """What the callbacks were told."""

    def __init__(self) -> None:
        self.swapped: list[tuple[str, str]] = []
        self.refused: list[list[str]] = []

    def swap(self, old: Policy, new: Policy) -> None:
        self.swapped.append((old.version, new.version))

    def refuse(self, error: FileProblem) -> None:
        self.refused.append(error.problems)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_policy(tmp_path, CLASSES, "classes.yaml")
    write_policy(tmp_path, ALIASES, "aliases.yaml")
    return tmp_path


@pytest.fixture
def heard() -> Heard:
    return Heard()


def reloader(path: Path, heard: Heard, clock: ManualClock | None = None) -> Reloader:
    return Reloader([path], clock or ManualClock(NOW_US), environ={}, on_swap=heard.swap, on_refused=heard.refuse)


def test_nothing_happens_while_nothing_changes(folder: Path, heard: Heard) -> None:
    """A touched file is not a changed one."""
    policies = reloader(folder, heard)
    os.utime(folder / "classes.yaml", (1, 1))
    assert policies.check_once() == "unchanged"
    assert (heard.swapped, heard.refused) == ([], [])


def test_a_change_is_taken_up_whole(folder: Path, heard: Heard) -> None:
    """New content in any file of the set makes a new policy, and its version and time show."""
    clock = ManualClock(NOW_US)
    policies = reloader(folder, heard, clock)
    old = policies.policy
    clock.advance(10)
    write_policy(folder, ALIASES.replace("gpt", "gpt-5"), "aliases.yaml")
    assert policies.check_once() == "swapped"
    assert policies.policy.aliases == {"gpt-5": "chat"}
    assert heard.swapped == [(old.version, policies.policy.version)]
    assert (policies.state().version, policies.state().loaded_us) == (policies.policy.version, NOW_US + 10_000_000)
    assert old.aliases == {"gpt": "chat"}


def test_a_new_file_and_a_deleted_one_are_changes(folder: Path, heard: Heard) -> None:
    """The set is what the folder holds now."""
    policies = reloader(folder, heard)
    write_policy(folder, "version: 1\naliases: {more: chat}\n", "more.yaml")
    assert policies.check_once() == "swapped"
    (folder / "aliases.yaml").unlink()
    assert policies.check_once() == "swapped"
    assert policies.policy.aliases == {"more": "chat"}


def test_a_bad_set_keeps_the_old_one_until_it_is_mended(folder: Path, heard: Heard) -> None:
    """One wrong file refuses all; it is said once, and mending it takes everything up."""
    policies = reloader(folder, heard)
    good = policies.policy
    write_policy(folder, ALIASES.replace("gpt", "gpt-5"), "aliases.yaml")
    write_policy(folder, CLASSES.replace("t4", "t5"), "classes.yaml")
    assert [policies.check_once() for _ in range(3)] == ["refused", "unchanged", "unchanged"]
    assert policies.policy is good
    assert len(heard.refused) == 1
    assert "qwen3-4b-fp16-t5" in policies.state().last_error[0]
    write_policy(folder, CLASSES, "classes.yaml")
    assert policies.check_once() == "swapped"
    assert policies.policy.aliases == {"gpt-5": "chat"}
    assert policies.state().last_error == ()


def test_a_folder_that_may_not_be_read_any_more_is_a_bad_set(
    folder: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a crash nor an empty policy: the old one stays in force, until the folder may be read again."""
    policies = reloader(folder, heard)
    before = policies.policy.version

    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", denied)
        assert policies.check_once() == "refused"
    assert heard.refused == [[f"{folder}:1: cannot read this folder: Permission denied"]]
    assert policies.policy.version == before
    assert policies.check_once() == "unchanged"
    assert policies.state().last_error == ()


def test_going_back_to_the_old_content_clears_the_error(folder: Path, heard: Heard) -> None:
    """Undoing a bad edit leaves the policy in force and no error behind."""
    policies = reloader(folder, heard)
    write_policy(folder, CLASSES[:-6], "classes.yaml")
    assert policies.check_once() == "refused"
    write_policy(folder, CLASSES, "classes.yaml")
    assert policies.check_once() == "unchanged"
    assert (policies.state().last_error, heard.swapped) == ((), [])


def test_a_symlink_swap_is_seen(tmp_path: Path, heard: Heard) -> None:
    """A folder that a link points to can be replaced in one step, as a ConfigMap is."""
    for name, text in (("one", ALIASES), ("two", ALIASES.replace("gpt", "gpt-5"))):
        (tmp_path / name).mkdir()
        write_policy(tmp_path / name, CLASSES, "classes.yaml")
        write_policy(tmp_path / name, text, "aliases.yaml")
    (tmp_path / "now").symlink_to(tmp_path / "one")
    policies = reloader(tmp_path / "now", heard)
    (tmp_path / "next").symlink_to(tmp_path / "two")
    (tmp_path / "next").replace(tmp_path / "now")
    assert policies.check_once() == "swapped"
    assert policies.policy.aliases == {"gpt-5": "chat"}


class InterruptedClock(ManualClock):
    """A clock at whose next readings something happens: an editor that saves while the files are being read."""

    def __init__(self, wall_us: int) -> None:
        super().__init__(wall_us)
        self.happens: list[Callable[[], object]] = []

    def wall_us(self) -> int:
        if self.happens:
            self.happens.pop(0)()
        return super().wall_us()


def test_a_set_that_changes_while_it_is_read_is_read_again(folder: Path, heard: Heard) -> None:
    """Files that are still being written are neither swapped in nor complained about."""
    clock = InterruptedClock(NOW_US)
    policies = reloader(folder, heard, clock)

    def save(name: str) -> Callable[[], object]:
        return lambda: write_policy(folder, ALIASES.replace("gpt", name), "aliases.yaml")

    clock.happens = [save("gpt-5"), save("gpt-6")]  # before the look, and between look and load
    assert policies.check_once() == "unsettled"
    clock.happens = [save("gpt-6"), save("- gpt-7")]
    assert policies.check_once() == "unsettled"
    assert (policies.policy.aliases, heard.refused) == ({"gpt": "chat"}, [])
    save("gpt-8")()
    assert policies.check_once() == "swapped"
    assert policies.policy.aliases == {"gpt-8": "chat"}


def test_price_books_of_the_files_are_watched(folder: Path, heard: Heard) -> None:
    """A changed price is a changed policy; a missing book is a refusal that ends when it is there."""
    shipped = (SHIPPED_FOLDER.parent.parent / "pricing" / "books" / "modal-2026-10.yaml").read_text(encoding="utf-8")
    book = shipped.replace("id: modal-2026-10", "id: mine").replace("series: modal", "series: mine")
    write_policy(folder, CLASSES.replace("modal-2026-10", "mine") + "price_books: [books]\n", "classes.yaml")
    (folder / "books").mkdir()
    write_policy(folder / "books", book)
    policies = reloader(folder, heard)
    write_policy(folder / "books", book.replace("{gpu: T4, usd_per_hour: 0.59}", "{gpu: T4, usd_per_hour: 0.60}"))
    assert policies.check_once() == "swapped"
    assert policies.policy.rates["qwen3-4b-fp16-t4"].gpu_nusd_per_h == 600_000_000
    (folder / "books" / "policy.yaml").unlink()
    assert policies.check_once() == "refused"
    write_policy(folder / "books", book, "other.yaml")
    assert policies.check_once() == "swapped"


def test_a_price_book_takes_effect_without_an_edit(folder: Path, heard: Heard) -> None:
    """When the day of a later book comes, the next look compiles the policy with its rates."""
    shipped = (SHIPPED_FOLDER.parent.parent / "pricing" / "books" / "modal-2026-10.yaml").read_text(encoding="utf-8")
    later = shipped.replace("id: modal-2026-10", "id: later").replace(
        "effective_from: null", "effective_from: 2026-01-02"
    )
    (folder / "books").mkdir()
    write_policy(folder / "books", later)
    named = CLASSES.replace("modal-2026-10", "[modal-2026-10, later]") + "price_books: [books]\n"
    write_policy(folder, named, "classes.yaml")
    clock = ManualClock(NOW_US)
    policies = reloader(folder, heard, clock)
    clock.advance(86_400)
    assert policies.check_once() == "swapped"
    assert (policies.policy.price_book, policies.policy.rate_changes) == ("later", ())
    assert policies.check_once() == "unchanged"


def test_looking_changes_nothing_until_it_is_adopted(folder: Path, heard: Heard) -> None:
    """`examine` may run beside requests: policy, state and callbacks wait for `adopt`."""
    policies = reloader(folder, heard)
    before = policies.policy, policies.state()
    write_policy(folder, ALIASES.replace("gpt", "gpt-5"), "aliases.yaml")
    found = policies.examine()
    assert (policies.policy, policies.state()) == before
    assert heard.swapped == []
    assert policies.adopt(found) == "swapped"
    assert policies.policy.aliases == {"gpt-5": "chat"}


def test_without_a_good_set_there_is_nothing_to_start_with(tmp_path: Path, heard: Heard) -> None:
    """The first load raises, since no old set could be kept."""
    with pytest.raises(FileProblem):
        reloader(write_policy(tmp_path, CLASSES.replace("t4", "t5")), heard)
