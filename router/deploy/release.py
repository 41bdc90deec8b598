"""The release that is installed here, as it is sent to Modal."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pools.modal.router import PACKAGES, Release
from pricing.errors import SluiceError

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
"""Of what runs, with hashes; a link to the lock file in a checkout, a copy of it in a wheel."""

_GENERATED: Final = "__pycache__"


class NotDeployable(SluiceError):
    """What is installed here lacks a part of a release."""


def this_release() -> Release:
    """Raises NotDeployable where the requirements are missing."""
    try:
        requirements = REQUIREMENTS.read_bytes()
    except OSError:
        raise NotDeployable(
            f"{REQUIREMENTS} is missing, the list of hashed requirements; install sluice from a wheel or a checkout"
        ) from None
    folders = [Path(str(importlib.import_module(name).__file__)).parent for name in PACKAGES]
    return Release(
        version=importlib.metadata.version("sluice"),
        sources_sha256=_digest(folders),
        requirements=REQUIREMENTS,
        requirements_sha256=hashlib.sha256(requirements).hexdigest(),
    )


def _digest(folders: Iterable[Path]) -> str:
    """Of every file of some packages, by name and content."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in _files(folder):
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """In an order that does not depend on the file system."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and _GENERATED not in path.parts)
