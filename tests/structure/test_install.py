"""The wheel: what `pip install .` gives someone who has no clone."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from support.repository import PACKAGES, ROOT

COPIED = ("pyproject.toml", "README.md", "LICENSE", "requirements/runtime.in")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy so that no build folder is left in the repository."""
    source = tmp_path_factory.mktemp("source")
    for name in COPIED:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    built = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(source))
    return next(built.glob("sluice-*.whl"))


@pytest.fixture(scope="module")
def sluice(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `sluice` of a virtual environment that has the wheel and, by reference, this one's libraries."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # A path in a .pth file makes libraries importable without running the .pth files beside them, so that the
    # editable install of this repository stays out of sight.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    return home / "bin" / "sluice"


def pip(*arguments: str) -> None:
    """Run pip; its output is shown where it fails."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an installed command in a folder, with nothing in the environment that points back here."""
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "120"}
    return subprocess.run(
        [str(command), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_every_dependency_comes_from_the_requirements_file(wheel: Path) -> None:
    """The wheel asks for exactly what requirements/runtime.in lists, and has the licence inside."""
    with zipfile.ZipFile(wheel) as archive:
        metadata_name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(metadata_name).decode()
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    asked = sorted(re.findall(r"^Requires-Dist: ([\w.-]+)", metadata, re.MULTILINE))
    lines = (ROOT / "requirements" / "runtime.in").read_text().splitlines()
    listed = sorted(re.match(r"[\w.-]+", line).group() for line in lines if re.match(r"\w", line))  # type: ignore[union-attr]
    assert asked == listed
    assert licences


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    """Every module and data file of the four packages is in the wheel; tests, docs and benchmarks are not."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("check",),
        ("prices",),
        ("explain", "--class", "vision", "--prompt-tokens", "12000", "--max-tokens", "500", "--tier", "standard"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_installed_command_works_from_an_empty_folder(
    sluice: Path, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """`sluice`, installed from the wheel, finds its own policies, prices and catalogue from any folder."""
    done = run(sluice, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.iterdir()) == []
