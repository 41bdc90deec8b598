"""Endpoints with something to look at, and the way into their dashboard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.chromium import Page
from support.endpoint import KEYS, Endpoint, before_simulated, policy

WIDE, PHONE = 1280, 390  # pixels
CAPS = [
    {"name": "day", "amount_usd": 0.02, "window": "24h", "scope": "tenant:acme"},
    {"name": "month", "amount_usd": 50, "window": "1mo", "scope": "tenant:globex"},
    {"name": "chat", "amount_usd": 1, "window": "1mo", "scope": "class:chat"},
    {"name": "mid", "amount_usd": 2, "window": "24h", "scope": "pool:mid"},
]


@contextlib.asynccontextmanager
async def with_traffic(folder: Path, **sections: Any) -> AsyncIterator[Endpoint]:
    """Two tenants have asked, one request moved on from a broken pool, and no row is written by itself any more."""
    files = policy(**{"caps": CAPS, **sections})
    async with before_simulated(folder, files, awake=("mid", "small"), house_flush_s=1e6) as endpoint:
        await asyncio.gather(
            *(endpoint.chat("acme", max_tokens=40, stream=bool(number % 2)) for number in range(4)),
            *(endpoint.chat("globex", model="text", max_tokens=25) for _ in range(2)),
        )
        await endpoint.fail("mid", "refuse")
        await endpoint.chat("acme", max_tokens=10)
        await endpoint.settled()
        await endpoint.service.meters.post_house()
        yield endpoint


async def sign_in(page: Page, endpoint: Endpoint, key: str = "ops") -> None:
    """Come as a person does: open the dashboard, which asks for a key, type it and press Enter."""
    await page.open(f"{endpoint.url}/")
    assert await page.run("location.pathname") == "/dashboard/login"
    await page.until("document.activeElement.id === 'key'")  # browsers give it the focus as they paint
    await page.type(KEYS.get(key, key))
    page.loaded.clear()
    await page.press("Enter")
    await asyncio.wait_for(page.loaded.wait(), 30)
    await page.until("!document.querySelector('[data-pending]')")


async def report(endpoint: Endpoint, key: str, since: str, by: str = "tenant,class,pool") -> Any:
    """What the API says of the money, as the dashboard asks for it."""
    return (await endpoint.ask("GET", f"/v1/reports?by={by}&since={since}&show=money,failures", key)).json
