"""The requirement files: hashed, free of places to download from, and in step with what they were compiled from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.repository import ROOT

RUNTIME, DEV, BUILD, VLLM = (ROOT / "requirements" / f"{name}.txt" for name in ("runtime", "dev", "build", "vllm"))
COMPILED = [RUNTIME, DEV, BUILD, VLLM]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(path: Path) -> set[str]:
    """Names in a .in file, those of the files that it includes too."""
    names = set()
    for line in path.read_text().splitlines():
        if included := re.match(r"-r (\S+)", line):
            names |= asked(path.parent / included.group(1))
        elif name := re.match(r"[\w.-]+", line):
            names.add(canonical(name.group()))
    return names


def pinned(path: Path) -> dict[str, set[str]]:
    """Package to its exact versions in a compiled file (more than one where they depend on Python's version)."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE):
        found.setdefault(canonical(name), set()).add(version)
    return found


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_every_requirement_is_exact_and_hashed_and_names_no_place(path: Path) -> None:
    """Each line is `name==version`, a hash or a comment: no index, no URL, no path, no option."""
    lines = path.read_text().splitlines()
    requirement = re.compile(r"[\w.-]+==[\w.!+]+( ; [\w. '<>=!()-]+)? \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not (requirement.fullmatch(line) or digest.fullmatch(line))] == []


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_compiled_files_have_what_their_sources_ask_for(path: Path) -> None:
    """Every name of a .in file is pinned in the .txt beside it; `make lock` was not forgotten."""
    assert asked(path.with_suffix(".in")) - set(pinned(path)) == set()


def test_development_runs_on_the_versions_that_are_shipped() -> None:
    """Each package of runtime.txt and build.txt has the same versions in dev.txt: what is tested is what runs."""
    shipped, dev = {**pinned(RUNTIME), **pinned(BUILD)}, pinned(DEV)
    assert {name: versions for name, versions in shipped.items() if dev.get(name) != versions} == {}
