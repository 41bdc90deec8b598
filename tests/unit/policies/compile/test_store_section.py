"""What a policy says of its budget store, over all files, and what must stand beside `on_store_down: allow`."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.policy import Durability, OnStoreDown, StorePolicy
from pricing.errors import FileProblem
from support.choosing import USD, load, write_policy

BASE = """\
version: 1
price_book: modal-2026-10
classes:
  chat:
    ladder: {premium: [qwen3-4b-bf16-a10]}
  code:
    on_store_down: allow
    ladder: {premium: [qwen3-4b-bf16-a10]}
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = write_policy(tmp_path, text)
    with pytest.raises(FileProblem) as raised:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in raised.value.problems]


def test_each_class_decides_and_the_allowance_is_one(tmp_path: Path) -> None:
    """An allowance is a replica's, for all classes that may draw on it; the promise is everysec unless it is said."""
    policy = load(write_policy(tmp_path, BASE + "store: {allowance_usd: 2.50}\n"))
    assert policy.store == StorePolicy(allowance_nusd=5 * USD // 2, durability=Durability.EVERYSEC)
    downs = {name: one.limits.on_store_down for name, one in policy.classes.items()}
    assert downs == {"chat": OnStoreDown.REJECT, "code": OnStoreDown.ALLOW}


def test_a_class_that_allows_without_a_bound_is_refused_where_it_says_so(tmp_path: Path) -> None:
    """Also where the store's section is there and says something else."""
    [problem] = problems(tmp_path, BASE + "store: {durability: always}\n")
    assert problem.startswith("7: class 'code': on_store_down: allow needs a bound; write store: with allowance_usd")


def test_defaults_that_allow_are_refused_once(tmp_path: Path) -> None:
    """The line is that of the key, not of every class that takes it over."""
    text = BASE.replace("    on_store_down: allow\n", "") + "defaults:\n  on_store_down: allow\n"
    [problem] = problems(tmp_path, text)
    assert problem.startswith("9: on_store_down: allow needs a bound")


@pytest.mark.parametrize("amount", ["0", "-1", "unlimited", "lots", "[1]", ".nan"])
def test_an_allowance_is_an_amount_above_nothing(tmp_path: Path, amount: str) -> None:
    """No word for everything, and reject is the word for nothing."""
    [problem] = problems(tmp_path, BASE + f"store:\n  allowance_usd: {amount}\n")
    assert problem.startswith("10: ")
    assert "allowance_usd" in problem


def test_misspelt_keys_and_words_are_refused(tmp_path: Path) -> None:
    """With the place, as everywhere."""
    assert problems(tmp_path, BASE + "store:\n  allowance: 1\n")[0].startswith("10: ")
    [problem] = problems(tmp_path, BASE + "store: {allowance_usd: 1, durability: sometimes}\n")
    assert "durability" in problem
