"""Fixtures of the suites about pools."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from pools.wire.http import make_session
from support.live_world import World


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    made = make_session()
    yield made
    await made.close()


@pytest.fixture
def world() -> World:
    return World()
