"""Settings that every test shares: how long Hypothesis searches, and where the repository is.

Two Hypothesis profiles: `dev` (default) looks for new counterexamples on each run; `ci`, chosen when the environment
has `CI=true`, repeats the same examples every time, so that a red run is red for a reason in the change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.real_postgres import NO_PROGRAM as NO_POSTGRES
from support.real_postgres import PostgresServer, find_postgres, running_postgres
from support.real_redis import NO_PROGRAM, RedisServer, find_redis, running_redis

# A slow, shared machine must not fail a property: time is no part of any claim.
_SLOW_IS_FINE = [HealthCheck.too_slow]
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_IS_FINE)
settings.register_profile("ci", deadline=None, suppress_health_check=_SLOW_IS_FINE, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis that the tests of one worker share: each takes a namespace of its own, none stops the server."""
    if find_redis() is None:
        pytest.skip(NO_PROGRAM)
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """The shared server's address, as SLUICE_REDIS_URL has it."""
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL that the tests of one worker share: each takes a database of its own, none stops the server."""
    if find_postgres() is None:
        pytest.skip(NO_POSTGRES)
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The address of an empty database of this test's own, as SLUICE_LEDGER has it."""
    return postgres_server.new_database()
