"""What a policy was made from: its files, and a version that is the same wherever their content is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Final

from policies.compile.pools import Books
from policies.files.fileset import FileSet, model_path
from pools.catalog.load import SHIPPED as CATALOGUE_FILES

VERSION_DIGITS: Final = 12


def made_from(files: FileSet, books: Iterable[Books]) -> list[Path]:
    """The files that a policy was made from, catalogue excluded."""
    model = model_path(files)
    own = [document.path for document, _ in files.files]
    priced = dict.fromkeys(book.path for each in books for book in (each.current, *each.later))
    return [*own, *priced, *([] if model is None else [model])]


def version_of(paths: Iterable[Path], books: Iterable[Books]) -> str:
    """A short hash over the content of every file, the shipped catalogue included, and the books in force.

    Paths are left out, so that replicas which mount the same files elsewhere agree.
    """
    digest = hashlib.sha256(" ".join(each.current.id for each in books).encode())
    shipped = resources.files("pools") / "catalog"
    for content in (*(path.read_bytes() for path in paths), *((shipped / n).read_bytes() for n in CATALOGUE_FILES)):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:VERSION_DIGITS]
