"""The systemd unit: what systemd says of it, and how it goes with the process that it starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from router.service.settings import Settings
from support.unit_file import UNIT, Unit

EXPOSURE_AT_MOST = 15  # tenths, of a hundred: what is left is the network, which is its purpose


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this machine's command, since systemd looks whether there is one."""
    path = tmp_path / UNIT.name
    command = str(Path(sys.executable).with_name("sluice"))
    path.write_text(UNIT.read_text(encoding="utf-8").replace(Unit().command()[0], command), encoding="utf-8")
    return path


def analyze(*arguments: str) -> str:
    """What `systemd-analyze` prints, which must be content."""
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing: install the package systemd"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_it_without_a_word(unit: Path) -> None:
    """Every key is known and every value is one."""
    assert analyze("verify", "--man=no", str(unit)) == ""


def test_it_is_locked_up(unit: Path) -> None:
    """By systemd's own measure of what a service could do to its machine."""
    analyze("security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST}", str(unit))


def test_systemd_waits_longer_than_the_endpoint_takes_to_stop() -> None:
    """Grace, five seconds for clients that do not read, five to write rows: then systemd would kill."""
    unit = Unit()
    command = unit.command()
    grace_s = float(command[command.index("--grace-s") + 1])
    assert unit.one("KillSignal") == "SIGTERM"
    assert float(unit.one("TimeoutStopSec")) >= grace_s + 5 + 5


def test_its_ledger_lies_where_it_may_write() -> None:
    """In the state folder, which survives restarts and upgrades; the environment's file has the last word."""
    unit = Unit()
    settings = Settings.from_environ(unit.environment(state="/var/lib"))
    assert str(settings.ledger) == f"/var/lib/{unit.one('StateDirectory')}/sluice.sqlite"
    assert unit.text.index("Environment=") < unit.text.index("EnvironmentFile=")


def test_a_wrong_policy_is_not_started_again_and_again() -> None:
    """Status 2, by which every verb says that what it was given is wrong."""
    assert (Unit().one("Restart"), Unit().one("RestartPreventExitStatus")) == ("on-failure", "2")
