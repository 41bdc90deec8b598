"""The dashboard in a real Chromium to those who cannot see or point, on any screen, in any colours, without scripts."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from pathlib import Path

from support.chromium import Page
from support.dashboards import PHONE, WIDE, report, sign_in, with_traffic
from support.endpoint import KEYS, Endpoint, before_simulated

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe-4.14.1.min.js"


async def test_axe_finds_nothing_to_complain_of(page: Page, tmp_path: Path) -> None:
    """Names, roles, contrast, order of headings, landmarks: on every page, in both colours, at both widths."""
    found: dict[str, list[str]] = {}
    async with with_traffic(tmp_path) as endpoint:
        await page.open(f"{endpoint.url}/")
        found["sign in"] = await violations(page)
        await sign_in(page, endpoint)
        for width, scheme in product((WIDE, PHONE), ("light", "dark")):
            await page.look(width, scheme=scheme, phone=width == PHONE)
            await page.open(f"{endpoint.url}/")
            await page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            found[f"overview {width} {scheme}"] = await violations(page)
            await page.run("document.querySelector('.moved a').click()")
            await page.until("document.getElementById('explanation').open")
            found[f"explanation {width} {scheme}"] = await violations(page, "#explanation")
        await page.open(await page.run("document.querySelector('.moved a').href"))
        found["decision"] = await violations(page)
    assert {name: each for name, each in found.items() if each} == {}


async def violations(page: Page, where: str = "html") -> list[str]:
    await page.run(f"window.axe || (() => {{ {AXE.read_text(encoding='utf-8')} }})(); null")
    found = await page.run(f"axe.run({json.dumps(where)}, {{resultTypes: ['violations']}})")
    return [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found["violations"]]


async def test_no_page_is_wider_than_its_screen(page: Page, tmp_path: Path) -> None:
    """Tables scroll inside of their frames; nothing makes the page itself scroll sideways."""
    widths = (320, PHONE, 768, WIDE)
    seen = {}
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        for address in (f"{endpoint.url}/", await page.run("document.querySelector('.moved a').href")):
            for width in widths:
                await page.look(width, phone=width < 600)
                await page.open(address)
                seen[address, width] = await page.run("document.documentElement.scrollWidth")
    assert seen == {(address, width): width for address, width in seen}


async def test_panels_of_one_kind_stand_beside_each_other(page: Page, tmp_path: Path) -> None:
    """Spend by tenant, class and pool in one row where there is room, else none alone beside a gap; no table is cut."""
    rows, cut = {}, {}
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        for width in (PHONE, 800, 1024, WIDE, 1600):
            await page.look(width, phone=width < 600)
            await page.open(f"{endpoint.url}/")
            await page.until("!document.querySelector('[data-pending]')")
            boxes = await page.run("""[...document.querySelectorAll("#tables > section")].map((one) => {
                const box = one.getBoundingClientRect();
                return [Math.round(box.top), Math.round(box.width)];
            })""")
            full = await page.run("document.getElementById('tables').clientWidth")
            by_row = {top: [width for at, width in boxes if at == top] for top, _ in boxes}
            rows[width] = [len(widths) for widths in by_row.values()]
            assert all(sum(widths) + 16 * (len(widths) - 1) >= full - 3 for widths in by_row.values())
            cut[width] = await page.run("""[...document.querySelectorAll("#tables .scroll, .scroll.feed")].filter(
                (one) => one.scrollWidth > one.clientWidth).map((one) => one.getAttribute("aria-labelledby"))""")
    assert rows == {PHONE: [1, 1, 1], 800: [1, 1, 1], 1024: [2, 1], WIDE: [3], 1600: [3]}
    assert cut == {width: [] for width in rows}


async def test_the_page_can_be_walked_with_the_keyboard(page: Page, tmp_path: Path) -> None:
    """Tab goes from the skip link to the end; each stop is seen, named and marked; that link leads to the content."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        await page.run("document.getElementById('pause').click(); document.activeElement.blur(); scrollTo(0, 0)")
        stops = []
        while True:
            await page.press("Tab")
            stop = await page.run(STOP)
            if stop is None:
                break
            stops.append(stop)
            assert len(stops) < 200
        assert stops[0]["name"] == "Skip to content"
        assert [stop for stop in stops if not (stop["name"] and stop["seen"] and stop["marked"])] == []
        everything = await page.run(
            f"[...document.querySelectorAll({json.dumps(FOCUSABLE)})].filter((one) => one.checkVisibility()).length"
        )
        assert len(stops) == everything
        await page.run("document.activeElement.blur(); scrollTo(0, 0)")
        await page.press("Tab")
        await page.press("Enter")
        assert await page.run("document.activeElement.id") == "main"


FOCUSABLE = "a[href], button, input, summary, [tabindex='0']"
STOP = """(() => {
    const at = document.activeElement;
    if (!at || at === document.body || at === document.documentElement) return null;
    const box = at.getBoundingClientRect(), style = getComputedStyle(at);
    const ids = (at.getAttribute("aria-labelledby") || "").split(" ");
    const labels = ids.map((id) => document.getElementById(id)?.innerText);
    return {
        name: (at.getAttribute("aria-label") || labels.join(" ").trim() || at.innerText || at.title || "").trim(),
        seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        what: at.outerHTML.slice(0, 80),
    };
})()"""


async def test_colours_follow_the_system_or_one_s_choice(page: Page, tmp_path: Path) -> None:
    """Dark on a dark system, light once chosen, and the choice is there when the page comes again."""
    async with before_simulated(tmp_path) as endpoint:
        await page.look(WIDE, scheme="dark")
        await sign_in(page, endpoint)
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await page.run(ground)
        await page.run("document.getElementById('theme').click()")
        light = await page.run(ground)
        await page.open(f"{endpoint.url}/")
        assert await page.run(ground) == light != dark
        assert await page.text("#theme-name") == "light"


async def test_the_page_says_everything_without_scripts(page: Page, tmp_path: Path) -> None:
    """Rendered by the server: figures, tables and rows are there where scripts are off."""
    async with with_traffic(tmp_path) as endpoint:
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await sign_in_without_scripts(page, endpoint)
        source = await source_of(page)
        while "data-pending" in source:
            await page.open(f"{endpoint.url}/")
            source = await source_of(page)
        month = (await report(endpoint, "ops", "1h"))["ledger_nusd"]
    assert f'value="{month}"' in source
    assert source.count("data-id=") == 7


async def sign_in_without_scripts(page: Page, endpoint: Endpoint) -> None:
    await page.open(f"{endpoint.url}/")
    await page.type(KEYS["ops"])
    page.loaded.clear()
    await page.press("Enter")
    await asyncio.wait_for(page.loaded.wait(), 30)


async def source_of(page: Page) -> str:
    root = (await page.call("DOM.getDocument", depth=0))["root"]["backendNodeId"]
    source: str = (await page.call("DOM.getOuterHTML", backendNodeId=root))["outerHTML"]
    return source
