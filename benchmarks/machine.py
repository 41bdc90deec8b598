"""The machine and the versions that a measurement belongs to."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "aiohttp",
    "fastapi",
    "hiredis",
    "httptools",
    "httpx",
    "msgspec",
    "psycopg",
    "pydantic",
    "redis",
    "scikit-learn",
    "uvicorn",
    "uvloop",
)


def describe() -> list[tuple[str, str]]:
    """What a reader needs to compare: processor, cores, memory, kernel, Python, packages."""
    return [
        ("processor", _first(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)") or platform.processor() or "unknown"),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("system", _first(Path("/etc/os-release"), r'PRETTY_NAME="(.+)"') or "unknown"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("servers", ", ".join(_servers()) or "none"),
    ]


def _servers() -> list[str]:
    """Redis and PostgreSQL with their versions, where they are installed."""
    packaged = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), reverse=True)
    postgres = next(iter(packaged), None) or shutil.which("postgres")
    programs = {"Redis": shutil.which("redis-server"), "PostgreSQL": postgres}
    return [f"{name} {_version(program)}" for name, program in programs.items() if program]


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+\.[\d.]+", said)
    return match.group() if match else said.strip()


def _first(path: Path, pattern: str) -> str:
    """The first match of a pattern in a file, or nothing where the file is not there."""
    try:
        match = re.search(pattern, path.read_text())
    except OSError:
        return ""
    return match.group(1).strip() if match else ""
