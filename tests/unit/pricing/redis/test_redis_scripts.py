"""Lua scripts put together from fragments."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.redis import scripts
from support.real_redis import RedisServer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts of a test's own."""
    monkeypatch.setattr(scripts, "FOLDER", tmp_path)
    scripts.script.cache_clear()
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.lua").write_text(text, encoding="utf-8")


def test_fragments_come_once_and_before_their_users(folder: Path, redis_server: RedisServer) -> None:
    """A script has each of its fragments once, in the order of use, and the server knows it by the same hash."""
    write(
        folder,
        clock="local function now() return 7 end\n",
        windows="-- uses: clock\nlocal function window() return now() * 2 end\n",
        step="-- What it does.\n-- uses: clock windows\nreturn now() + window()\n",
    )
    step = scripts.script("step")
    assert step.text.count(b"function now") == 1
    assert redis_server.command("SCRIPT", "LOAD", step.text) == step.sha
    assert redis_server.command("EVALSHA", step.sha, 0) == 21


def test_a_changed_fragment_is_another_script(folder: Path) -> None:
    """Scripts are known by their content, so replicas of two versions never run each other's."""
    write(folder, clock="local now = 1\n", step="-- uses: clock\nreturn now\n")
    before = scripts.script("step")
    write(folder, clock="local now = 2\n")
    scripts.script.cache_clear()
    assert scripts.script("step").sha != before.sha


def test_fragments_in_a_circle_are_refused(folder: Path) -> None:
    """A circle is named."""
    write(folder, one="-- uses: two\n", two="-- uses: one\n")
    with pytest.raises(ValueError, match="circle: one > two > one"):
        scripts.script("one")


@pytest.mark.parametrize("name", sorted(path.stem for path in scripts.FOLDER.glob("*.lua")))
def test_every_file_of_the_product_compiles_with_what_it_uses(name: str, redis_server: RedisServer) -> None:
    """Redis accepts each script and each fragment, put together with its fragments."""
    made = scripts.script(name)
    assert redis_server.command("SCRIPT", "LOAD", made.text) == made.sha
