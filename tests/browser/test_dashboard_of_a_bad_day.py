"""The dashboard in a real Chromium when names are long, amounts large, caps many, and the endpoint goes away."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from support.chromium import Page
from support.dashboards import PHONE, WIDE, sign_in
from support.endpoint import ASK, Endpoint, Policy, before_simulated, policy
from support.money import request, row
from support.shared_ledger import fill_file

LONG = "a-department-with-a-name-that-is-as-long-as-the-whole-company-is"
KEY = "sk-long-0123456789"
OVER = {"name": "over", "amount_usd": 5, "window": "1mo", "scope": f"tenant:{LONG}"}
CUT = """[...document.querySelectorAll('.tile dd, .tile dt, .who, nav ul')].filter(
    (one) => one.scrollWidth > one.clientWidth && getComputedStyle(one).textOverflow !== 'ellipsis'
).map((one) => one.innerText)"""


def of_many(**sections: Any) -> Policy:
    """A tenant with a long name, and a cap of it behind those of a hundred and twenty others."""
    files = policy()
    known = {"keys": [{"id": "long", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}
    idle = [{**OVER, "name": f"idle{number}", "scope": "tenant:acme"} for number in range(120)]
    return {**files, "tenants": {**files["tenants"], LONG: known}, "caps": [*idle, OVER], **sections}


def spend(folder: Path, amount_nusd: int) -> None:
    """The long-named tenant has spent that in the last minutes."""
    at_us = time.time_ns() // 1000
    made = row("req_dear:1", amount_nusd, LONG, at_us=at_us, pool="mid")
    fill_file(folder / "ledger.sqlite", [made], [request("req_dear", LONG, at_us=at_us, pool="mid")])


async def opened(page: Page, endpoint: Endpoint, width: int) -> None:
    await page.look(width, phone=width < 600)
    await page.open(f"{endpoint.url}/")
    await page.until("!document.querySelector('[data-pending]')")


async def test_long_names_and_large_amounts_stay_within_their_places(page: Page, tmp_path: Path) -> None:
    """No figure runs over its tile's edge, no part of the navigation is cut, and the page is as wide as its screen."""
    spend(tmp_path, 8_707_564_123_456_789)
    cut = {}
    async with before_simulated(tmp_path, of_many(), agrees=False) as endpoint:
        await sign_in(page, endpoint, KEY)
        for width in (320, PHONE, 768, WIDE):
            await opened(page, endpoint, width)
            assert await page.text("#spend-month") == "$8,707,564.12"
            cut[width] = await page.run(CUT)
            assert await page.run("document.documentElement.scrollWidth") == width
        await page.click_and_load("form[action='/dashboard/logout'] button")
        await sign_in(page, endpoint)  # who has one section more
        await opened(page, endpoint, 768)
        cut["admin"] = await page.run(CUT)
    assert cut == {name: [] for name in cut}


async def test_a_cap_that_is_used_up_is_seen_however_many_there_are(page: Page, tmp_path: Path) -> None:
    """The fullest come first, wherever the files have them, and the page says how many it leaves out."""
    async with before_simulated(tmp_path, of_many(), awake=("mid",)) as endpoint:
        assert (await endpoint.chat(KEY, max_tokens=20)).status == 200
        await endpoint.settled()
        await sign_in(page, endpoint)
        first = await page.text("#caps tbody tr th")
        count = await page.run("document.querySelectorAll('#caps tbody tr').length")
        assert (first, count) == (f"{LONG}/over", 100)
        assert "The fullest 100 of 121" in await page.text("#budgets")
        assert "of $5.00 / 1mo" in await page.text("table[data-by='tenant'] tbody")


async def test_nothing_is_drawn_of_nothing(page: Page, tmp_path: Path) -> None:
    """Before the first request both charts say so, instead of showing axes of nothing."""
    async with before_simulated(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        said = await page.run("[...document.querySelectorAll('.chart .empty')].map((one) => one.innerText)")
        assert said == ["Nothing in the last 24 hours."] * 2
        assert await page.run("document.querySelectorAll('.plot').length") == 0
        assert await page.run("document.getElementById('feed-state').innerText") in ("Live", "No requests")


async def test_on_paper_it_is_black_on_white_and_whole(page: Page, tmp_path: Path) -> None:
    """Whatever the screen's colours are, and whatever has to be scrolled there."""
    spend(tmp_path, 8_707_564_123_456_789)
    async with before_simulated(tmp_path, of_many(), agrees=False) as endpoint:
        await sign_in(page, endpoint, KEY)
        await page.look(1000, scheme="dark")
        await page.run("document.documentElement.dataset.theme = 'dark'")
        await page.call("Emulation.setEmulatedMedia", media="print")
        assert await page.run("getComputedStyle(document.body).color") == "rgb(24, 24, 27)"
        right = "Math.max(...[...document.querySelectorAll('table')].map((one) => one.getBoundingClientRect().right))"
        assert await page.run(right) <= 1000


@contextlib.asynccontextmanager
async def behind_a_proxy(endpoint: Endpoint, *refused: str) -> AsyncIterator[str]:
    """The address of a proxy that answers the first question for each of these paths by 502 and forwards the rest."""
    left = list(refused)

    async def forward(asked: web.Request) -> web.StreamResponse:
        if asked.path in left:
            left.remove(asked.path)
            return web.Response(status=502)
        async with endpoint.session.get(f"{endpoint.url}{asked.path_qs}", allow_redirects=False) as found:
            answer = web.StreamResponse(status=found.status, headers={"content-type": found.headers["content-type"]})
            await answer.prepare(asked)
            async for part in found.content.iter_any():
                await answer.write(part)
        return answer

    application = web.Application()
    application.router.add_get("/{path:.*}", forward)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_feed_comes_back_after_a_proxy_said_that_it_is_gone(page: Page, tmp_path: Path) -> None:
    """Browsers give a stream up for good once anything else is answered; the page then asks for it again."""
    async with (
        before_simulated(tmp_path, policy(tenants={}), awake=("mid",)) as endpoint,
        behind_a_proxy(endpoint, "/dashboard/feed") as url,
    ):
        await page.open(f"{url}/")
        await page.until("document.getElementById('feed-state').innerText === 'Not live'")
        await page.until("document.getElementById('feed-state').innerText === 'Live'")
        await endpoint.ask("POST", "/v1/chat/completions", None, json={"model": "chat", "messages": ASK})
        await page.until("document.querySelectorAll('#feed-rows tr').length === 1")
        await page.open("about:blank")
    assert [each for each in page.complaints if "502" not in each] == []
    page.complaints.clear()
