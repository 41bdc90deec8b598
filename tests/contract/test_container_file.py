"""The container file: what a linter says of it, and what it copies, installs and runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.service.settings import Settings
from support.repository import ROOT, product_modules, shown

FILE = ROOT / "router" / "deploy" / "Containerfile"
TEXT = FILE.read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """(instruction, what follows), with lines that go on put together and comments left out."""
    lines = "".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith("#"))
    whole = lines.replace("\\\n", " ").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in whole if line.strip()]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def copied() -> Iterator[tuple[str, str]]:
    """(from the repository, to a folder or file of the build) of each COPY that takes from the repository."""
    for rest in of("COPY"):
        if not rest.startswith("--from"):
            *sources, target = rest.split()
            yield from ((source, target) for source in sources)


def test_a_linter_finds_nothing() -> None:
    """hadolint, with all its rules, for the instructions and the shell in them."""
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(linter), "--no-color", str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made by the file's own command from what the file copies and nothing else."""
    source = tmp_path_factory.mktemp("src")
    for path, target in copied():
        whole = ROOT / path
        if whole.is_dir():
            shutil.copytree(whole, source / target, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        else:
            shutil.copy(whole, source / target)
    [step] = [part for rest in of("RUN") for part in rest.split(" && ") if "pip wheel" in part]
    _, *arguments = shlex.split(step.replace("/wheel", str(source / "wheel")))
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / "wheel").glob("sluice-*.whl"))


def test_what_is_copied_is_enough_for_the_wheel(built: Path) -> None:
    """All modules of the four packages are in it; the hashed requirements are a file there and no longer a link."""
    with zipfile.ZipFile(built) as archive:
        held = set(archive.namelist())
        requirements = archive.read("router/deploy/requirements.txt")
    assert {shown(path) for path in product_modules()} - held == set()
    assert requirements == (ROOT / "requirements" / "runtime.txt").read_bytes()


def test_every_library_is_checked_against_its_hash() -> None:
    """No `pip install` without hashes, but for the wheel that was just built, which may ask no index."""
    installs = [part for rest in of("RUN") for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes --only-binary :all:" in install or "--no-deps --no-index /wheel/" in install


def test_it_runs_as_nobody_in_particular_and_stops_by_sigterm() -> None:
    """A number for the user, so that Kubernetes sees that it is not root; the command gets signals itself."""
    assert of("USER") == ["10001:10001"]
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert of("ENTRYPOINT") == ['["sluice"]']
    assert of("CMD")[-1].startswith('["serve"')


def test_its_environment_is_what_the_product_reads() -> None:
    """Address, port and ledger are settings, and the ledger lies in the volume."""
    environ = dict(re.findall(r"(SLUICE_\w+)=(\S+)", " ".join(of("ENV"))))
    settings = Settings.from_environ(environ)
    assert (settings.host, str(settings.port)) == ("0.0.0.0", of("EXPOSE")[0])
    assert str(settings.ledger.parent) == of("VOLUME")[0] == of("WORKDIR")[-1]  # type: ignore[union-attr] # a file
