"""A policy folder that tests of the command line look at and change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policies.files.fileset import SHIPPED_DEFAULT
from support.cli import TENANTS


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A folder with the shipped ladders and a file of tenants."""
    folder = tmp_path / "policy"
    folder.mkdir()
    shutil.copy(SHIPPED_DEFAULT, folder)
    (folder / "tenants.yaml").write_text(TENANTS, encoding="utf-8")
    return folder
