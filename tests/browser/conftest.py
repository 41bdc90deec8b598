"""What tests in a browser share: one Chromium for all of a worker's tests, and pages with nothing in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

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
async def page(chromium: str) -> AsyncIterator[Page]:
    """A tab of its own. Whatever a test is about, the page may complain of nothing."""
    async with driving(chromium) as browser, browser.page() as page:
        await page.look(1280)
        yield page
        assert page.complaints == []
