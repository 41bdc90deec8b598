"""What tests of a budget store in front of another share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pricing.verify.sqlite import verify
from support.outages import Kept, setup


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = setup(tmp_path)
    assert await made.store.recover()
    made.inner.asked.clear()
    yield made
    made.inner.down = made.inner.deaf = False
    await made.store.aclose()
    assert verify(made.path, made.clock.wall_us()).problems == ()
