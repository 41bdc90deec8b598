"""Fixtures of the suites in which servers die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.real_postgres import NO_PROGRAM, PostgresServer, find_postgres, running_postgres


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A server of one file's own, which its tests kill. What it has committed it keeps."""
    if find_postgres() is None:
        pytest.skip(NO_PROGRAM)
    with running_postgres() as server:
        yield server
