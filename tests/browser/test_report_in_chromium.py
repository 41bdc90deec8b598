"""The page of a report in a real Chromium: at every width, in both colours, on paper, and read aloud."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pricing.reports.columns import every_set, parts_of
from pricing.reports.page import as_html
from pricing.reports.report import report
from support.chromium import Page
from support.example_ledger import BEGIN, write_example_ledger

AXE: Final = Path(__file__).parent / "vendor" / "axe-core" / "axe-4.14.1.min.js"
MONTH_US: Final = 30 * 86_400 * 10**6


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a page with bars, of one with columns, and of one about nothing."""
    folder = tmp_path_factory.mktemp("report")
    ledger = folder / "ledger.sqlite"
    write_example_ledger(ledger)
    made = {"bars": (("tenant", "pool"), BEGIN), "columns": (("day", "tenant"), BEGIN), "nothing": (("tenant",), 0)}
    for name, (by, since_us) in made.items():
        found = report(ledger, by, since_us, since_us + MONTH_US, house="weighted", parts=parts_of(every_set(by)))
        (folder / f"{name}.html").write_text(as_html(found, every_set(by)), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in made}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["bars", "columns", "nothing"])
async def test_axe_finds_nothing_in_a_report(page: Page, pages: dict[str, str], name: str, scheme: str) -> None:
    """Names, roles, contrast, order of headings, tables; and the browser has nothing to complain of."""
    await page.look(1280, scheme=scheme)
    await page.open(pages[name])
    await page.run(f"{AXE.read_text(encoding='utf-8')}; null")
    found = await page.run("axe.run(document, {resultTypes: ['violations']})")
    assert [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found["violations"]] == []
    assert page.complaints == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_no_report_is_wider_than_its_screen(page: Page, pages: dict[str, str], width: int) -> None:
    """Tables scroll inside of their frames, plots fit."""
    await page.look(width, phone=width < 600)
    for name in pages:
        await page.open(pages[name])
        assert await page.run("document.documentElement.scrollWidth") == width, name


async def test_bars_of_one_plot_have_one_scale(page: Page, pages: dict[str, str]) -> None:
    """Whatever text stands beside them: the drawings of a plot are equally wide, on a desk and on a phone."""
    for width in (1280, 390):
        await page.look(width, phone=width < 600)
        await page.open(pages["bars"])
        script = """[...document.querySelectorAll('.bars')].map((plot) =>
            new Set([...plot.querySelectorAll('svg')].map((one) => one.getBoundingClientRect().width)).size)"""
        assert await page.run(script) == [1, 1, 1]


async def test_on_paper_pages_are_full(page: Page, pages: dict[str, str]) -> None:
    """Landscape A4; plots and tables follow each other over few pages, a table goes on where a page ends."""
    for name, at_most in {"bars": 3, "columns": 4, "nothing": 1}.items():
        await page.open(pages[name])
        paper = await page.printed()
        sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", paper)
        assert {tuple(round(float(points)) for points in size) for size in sizes} == {(842, 595)}
        assert len(sizes) <= at_most, name


async def test_on_paper_no_table_is_cut(page: Page, pages: dict[str, str]) -> None:
    """On landscape A4, in black on white whatever the screen's colours, every table is within the page."""
    await page.look(1032, scheme="dark")  # 273 mm between the margins
    await page.call("Emulation.setEmulatedMedia", media="print")
    await page.open(pages["bars"])
    assert await page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    wide = "Math.max(...[...document.querySelectorAll('table')].map((one) => one.getBoundingClientRect().right))"
    assert await page.run(wide) <= 1032


async def test_on_paper_every_tile_holds_its_text(page: Page, tmp_path: Path) -> None:
    """Amounts below a dollar have six decimals; what is in neither side of the saving is still within its frame."""
    write_example_ledger(tmp_path / "ledger.sqlite")
    found = report(tmp_path / "ledger.sqlite", ["tenant"], BEGIN, BEGIN + MONTH_US, parts=parts_of(every_set(())))
    small = replace(
        found,
        separate=(replace(found.separate[0], amount_nusd=309_535_000),),
        total=replace(found.total, charged_nusd=300_415_000),
    )
    (tmp_path / "page.html").write_text(as_html(small, every_set(())), encoding="utf-8")
    await page.look(1032)
    await page.call("Emulation.setEmulatedMedia", media="print")
    await page.open((tmp_path / "page.html").as_uri())
    tiles = "[...document.querySelectorAll('.tiles dd')]"
    assert "Boot and idle, in neither $0.309535" in await page.text(".tiles")
    assert (
        await page.run(f"{tiles}.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.innerText)") == []
    )
