"""The two ledgers whose sums are done by hand, each written once: what reads them changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.example_ledger import write_example_ledger
from support.ledgers import write_small_ledger


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the examples in the docs."""
    path = tmp_path_factory.mktemp("example") / "ledger.sqlite"
    write_example_ledger(path)
    return path


@pytest.fixture(scope="session")
def small_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of two tenants, see `support.ledgers`."""
    path = tmp_path_factory.mktemp("small") / "ledger.sqlite"
    write_small_ledger(path)
    return path
