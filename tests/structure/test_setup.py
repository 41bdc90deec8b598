"""What `make` says on a machine that cannot run the project yet: which package to install, by name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.repository import ROOT

TOO_OLD = 'case "$*" in *version_info*) exit 1;; --version) echo "Python 3.9.2";; esac'
NO_VENV = 'case "$*" in *ensurepip*) exit 1;; *print*) echo "3.11";; esac'


def set_up(folder: Path, **pythons: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up script on a machine whose only programs are `dirname` and the given stand-ins for Python."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "dirname").symlink_to(shutil.which("dirname") or "/usr/bin/dirname")
    for name, script in pythons.items():
        program = programs / name.replace("_", ".")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    shell = shutil.which("sh") or "/bin/sh"
    command = [shell, str(ROOT / "requirements" / "install"), str(folder / "venv")]
    return subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, check=False)


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    """Without any Python, the message names the packages that bring it."""
    done = set_up(tmp_path)
    assert done.returncode == 1
    assert "Python 3.11 or later is needed; this machine has: no python3." in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr


def test_an_old_python_is_named_with_its_version(tmp_path: Path) -> None:
    """A Python before 3.11 is refused with its version and a way to use another one."""
    done = set_up(tmp_path, python3=TOO_OLD)
    assert done.returncode == 1
    assert "this machine has: Python 3.9.2." in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_missing_venv_module_is_named_with_its_package(tmp_path: Path) -> None:
    """Where Python cannot make virtual environments, the message has the Debian package for its version."""
    done = set_up(tmp_path, python3=NO_VENV)
    assert done.returncode == 1
    assert "sudo apt-get install python3.11-venv" in done.stderr


def test_a_newer_python_beside_an_old_one_is_found(tmp_path: Path) -> None:
    """An old `python3` does not hide a suitable `python3.12`: that one is asked to make the environment."""
    asked = tmp_path / "asked"
    done = set_up(tmp_path, python3=TOO_OLD, python3_12=f'[ "$1" = -m ] && echo "$*" > {asked} && exit 7; exit 0')
    assert done.returncode == 7
    assert asked.read_text() == f"-m venv --clear {tmp_path}/venv\n"
