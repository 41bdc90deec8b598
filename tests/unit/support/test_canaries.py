"""The search for canaries finds what it must, or invariant 8 would be tested by a check that sees nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.canaries import SLICE, Canaries

CANARIES = Canaries.plant(7)
KINDS = ("prompt", "completion", "api_key", "upstream_secret")


def test_planting_is_repeatable_and_every_secret_is_different() -> None:
    """The same seed plants the same canaries; another seed shares no run of characters with them."""
    assert Canaries.plant(7) == CANARIES
    other = Canaries.plant(8)
    assert CANARIES.leaks({"other": " ".join(getattr(other, kind) for kind in KINDS)}) == []


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_piece_of_any_secret_is_found(kind: str, data: st.DataObject) -> None:
    """Ten characters in a row of any canary, anywhere in a text, are a leak of that kind and of no other."""
    secret = getattr(CANARIES, kind)
    start = data.draw(st.integers(0, len(secret) - SLICE))
    noise = data.draw(st.text(alphabet=" .,:\n", max_size=5))
    leaks = CANARIES.leaks({"log": noise + secret[start : start + SLICE] + noise})
    assert leaks == [f"log: {kind} (plain)"]


@pytest.mark.parametrize(
    ("form", "write"),
    [
        ("plain", lambda secret: secret.upper().encode()),
        ("hex", lambda secret: secret.encode().hex().upper().encode()),
        ("base64", lambda secret: base64.b64encode(b"u:" + secret.encode())),
    ],
)
def test_other_writings_of_a_secret_are_found(form: str, write: Callable[[str], bytes]) -> None:
    """Another case, hex and base64, at any alignment, do not hide a secret."""
    assert CANARIES.leaks({"error": write(CANARIES.api_key)}) == [f"error: api_key ({form})"]


def test_escapes_do_not_hide_a_prompt() -> None:
    """The stretch of a prompt where JSON or a URL escapes a character is found too."""
    stretch = next(
        CANARIES.prompt[at - 3 : at + 7] for at, character in enumerate(CANARIES.prompt) if character == "\n"
    )
    assert CANARIES.leaks({"log": json.dumps(stretch)}) == ["log: prompt (JSON)"]
    assert CANARIES.leaks({"log": urllib.parse.quote(stretch)}) == ["log: prompt (URL)"]


def test_folders_are_searched_to_the_bottom(tmp_path: Path) -> None:
    """A leak in a file below a folder is named with the file's place."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "today").write_text(f"answer was {CANARIES.completion}")
    assert CANARIES.leaks({"data": tmp_path}) == ["data/logs/today: completion (plain)"]


def test_sqlite_values_are_found_while_they_are_in_the_log_of_writes(tmp_path: Path) -> None:
    """A value larger than a page and not yet checkpointed is found by reading the table's cells."""
    path = tmp_path / "ledger.sqlite"
    writer = sqlite3.connect(path)
    writer.executescript('PRAGMA journal_mode = WAL; CREATE TABLE "odd ""name" (body BLOB);')
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.execute('INSERT INTO "odd ""name" VALUES (?)', (b"x" * 9000 + CANARIES.prompt.encode(),))
    writer.commit()
    try:
        assert CANARIES.leaks({"ledger": path}) == ["ledger (cells): prompt (plain)"]
    finally:
        writer.close()


def test_what_may_be_written_is_no_leak() -> None:
    """A hash or a length of a secret is no leak."""
    digest = hashlib.sha256(CANARIES.api_key.encode()).hexdigest()
    assert CANARIES.leaks({"metrics": f'key="{digest}" chars={len(CANARIES.prompt)}'}) == []


def test_the_report_does_not_repeat_the_secret() -> None:
    """The list of leaks can itself be printed: it names the kind, not the string."""
    report = "\n".join(CANARIES.leaks({"log": f"{CANARIES.prompt} {CANARIES.api_key}"}))
    assert report
    assert CANARIES.leaks({"report": report}) == []
