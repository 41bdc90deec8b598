"""Fixtures of the contract suites."""

from collections.abc import AsyncIterator

import pytest

from support.real_redis import RedisServer
from support.redis_replicas import Replicas
from support.stores import ALL_STORES, TABLE, StoreSetup, running


@pytest.fixture(params=ALL_STORES)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[StoreSetup]:
    async with running(ALL_STORES[request.param](request), TABLE) as made:
        yield made


@pytest.fixture
async def replicas(redis_server: RedisServer) -> AsyncIterator[Replicas]:
    made = Replicas(redis_server)
    yield made
    await made.stop()
