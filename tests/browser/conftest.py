"""What tests in a browser share: one Chromium for all of a worker's tests, and pages with nothing in common.

`SCREENSHOTS=folder make test ARGS=tests/browser` leaves a picture of each page as its test left it, for people to look
at.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.chromium import NO_PROGRAM, Page, driving, find_chromium, running_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """Where a real Chromium listens."""
    program = find_chromium()
    if program is None:
        pytest.skip(NO_PROGRAM)
    with running_chromium(program) as address:
        yield address


@pytest.fixture
async def page(chromium: str, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A tab of its own. Whatever a test is about, the page may complain of nothing."""
    async with driving(chromium) as browser, browser.page() as page:
        await page.look(1280)
        yield page
        if folder := os.environ.get("SCREENSHOTS"):
            name = re.sub(r"[^\w-]+", "-", request.node.name)
            await page.screenshot(Path(folder) / f"{name}.png")
        assert page.complaints == []
