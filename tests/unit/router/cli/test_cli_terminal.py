"""What the command does with terminals, disks, ports and wrong words, whichever verb it is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from router.cli.main import VERBS, app
from support.ledgers import write_small_ledger

_RUN = "from router.cli.main import main; main()"
EXPLAIN = ("explain", "--class", "chat")


def sluice(*words: str, stdout: int | IO[Any] = subprocess.PIPE, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, with these variables beside ours."""
    command = [sys.executable, "-c", _RUN, *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")} | environ
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=240, check=False, env=environment
    )


def helped(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("verb", VERBS)
def test_help_speaks_no_python(verb: str) -> None:
    """Options take TEXT, a PATH or a number; lists of verbs end in whole sentences."""
    text = helped(verb)
    options = text.partition("Options:")[2]
    assert not re.search(r"<\w", options)
    assert "..." not in options.partition("Commands:")[2]


def test_a_wrong_choice_is_told_in_plain_words() -> None:
    """What may be written instead, without the parser's own words in front."""
    result = CliRunner().invoke(app, [*EXPLAIN, "--tier", "gold"])
    assert result.exit_code == 2
    assert "'--tier': 'gold' is not one of 'economy', 'standard', 'premium'" in result.output


def test_a_terminal_without_a_letter_shows_its_escape() -> None:
    """No answer is worth a traceback because of an arrow."""
    ended = sluice(*EXPLAIN, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\u2192 qwen3" in ended.stdout


def test_a_full_disk_behind_the_output_is_said_in_one_line() -> None:
    """Status 1, and nothing but the reason."""
    with Path("/dev/full").open("w") as full:
        ended = sluice(*EXPLAIN, stdout=full)
    assert (ended.returncode, ended.stderr) == (1, "sluice: cannot write: No space left on device\n")


@pytest.mark.parametrize("verb", [("serve", "--log-level", "critical"), ("simulate",)])
def test_an_address_that_is_taken_is_named(verb: tuple[str, ...], tmp_path: Path) -> None:
    """Status 2, with what to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = sluice(*verb, "--port", port, SLUICE_LEDGER=str(tmp_path / "ledger.sqlite"))
    said = f"sluice: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --host or --port\n"
    assert (ended.returncode, ended.stderr) == (2, said)


def test_what_is_wrong_is_named_as_it_was_said() -> None:
    """An option by its name, a variable by its own."""
    assert sluice("serve", "--port", "x").stderr.startswith("sluice: --port must be a port from 0 to 65535")
    assert sluice("serve", SLUICE_PORT="x").stderr.startswith("sluice: SLUICE_PORT must be a port from 0 to 65535")
    assert sluice("serve", "--replica", "a b").stderr.startswith("sluice: --replica is 'a b'")
    assert sluice("serve", "--redis-url", "x").stderr.startswith("sluice: --redis-url does not begin with")


def test_a_misspelt_verb_is_answered_with_the_nearest() -> None:
    """As misspelt options and words of verbs are."""
    result = CliRunner().invoke(app, ["exlain"])
    assert result.exit_code == 2
    assert "No such command 'exlain'. Did you mean 'explain'?" in result.output
    assert "No such command 'frobnicate'." in CliRunner().invoke(app, ["frobnicate"]).output


def test_a_misspelt_variable_is_told_and_not_passed_over() -> None:
    """Else the shipped policy would be served in the place of one's own; variables of others are left alone."""
    others = {"SLUICE_SERVICE_HOST": "10.0.0.1", "SLUICE_PORT_8080_TCP": "tcp://10.0.0.1:8080"}
    ended = sluice("serve", "--port", "x", SLUICE_POLCY="p.yaml", **others)
    first, second = ended.stderr.splitlines()
    assert first == "environment variable SLUICE_POLCY is not read; did you mean SLUICE_POLICY?"
    assert second.startswith("sluice: --port must be")


@pytest.mark.parametrize(
    "words",
    [("ledger", "show", "--tenant"), ("policy", "show"), ("explain",), ("explain", "--model")],
)
def test_bytes_that_are_no_text_are_told_without_a_trace(words: tuple[str, ...], tmp_path: Path) -> None:
    """A tenant, a version, an id: only a file may be called so."""
    ledger = tmp_path / "ledger.sqlite"
    write_small_ledger(ledger)
    ended = sluice(*words, os.fsdecode(b"\xff"), SLUICE_LEDGER=str(ledger))
    assert ended.returncode == 2
    assert ended.stderr.startswith("sluice: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["a..b", "x" * 300])
@pytest.mark.parametrize("verb", [("serve", "--log-level", "critical"), ("simulate",)])
def test_an_address_that_is_no_name_is_told(verb: tuple[str, ...], host: str, tmp_path: Path) -> None:
    """Status 2, with what to change."""
    ended = sluice(*verb, "--host", host, "--port", "0", SLUICE_LEDGER=str(tmp_path / "ledger.sqlite"))
    said = f"sluice: cannot listen on {host}:0: that is no name of a host; choose another --host or --port\n"
    assert (ended.returncode, ended.stderr) == (2, said)


def test_an_empty_file_is_no_ledger(tmp_path: Path) -> None:
    """And no heading is printed for rows that cannot be read."""
    ledger = tmp_path / "empty.sqlite"
    ledger.touch()
    ended = sluice("focus", "--ledger", str(ledger))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"sluice: {ledger} is no ledger: it has none of its tables")


@pytest.mark.parametrize("verb", [EXPLAIN, ("pools", "plan", "--offline"), ("simulate", "--pool", "small"), ("check",)])
def test_verbs_read_the_policy_that_the_environment_names(verb: tuple[str, ...], tmp_path: Path) -> None:
    """That alone: what other variables say of serving is of no matter to them."""
    nowhere = str(tmp_path / "nothing.yaml")
    ended = sluice(*verb, SLUICE_POLICY=nowhere, SLUICE_PORT="x")
    wanted = f"{nowhere}:1: cannot read this file: No such file or directory\n"
    assert (ended.returncode, ended.stderr) == (2, wanted)


@pytest.mark.parametrize("words", [("check", "{}"), ("explain", "--class", "chat", "--policy", "{}")])
def test_a_path_that_cannot_even_be_looked_at_is_a_file_that_cannot_be_read(words: tuple[str, ...]) -> None:
    """As a name that is too long, or one below a folder that may not be entered."""
    path = f"{'x' * 300}/policy.yaml"
    ended = sluice(*(word.format(path) for word in words))
    assert (ended.returncode, ended.stderr) == (2, f"{path}:1: cannot read this file: File name too long\n")


def test_a_ledger_that_cannot_even_be_looked_at_is_said() -> None:
    """No traceback, and no ledger that is missing."""
    path = f"{'x' * 300}/ledger.sqlite"
    ended = sluice("report", "--ledger", path)
    assert (ended.returncode, ended.stderr) == (2, f"sluice: ledger {path} cannot be read: File name too long\n")
