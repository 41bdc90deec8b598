"""The dashboard in a real Chromium: its numbers, what appears while one looks, and keys."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from pathlib import Path
from typing import Any

from router.dashboard.words import dollars, nusd_of, seconds, share, usd
from support.chromium import Page
from support.dashboards import WIDE, report, sign_in, with_traffic
from support.endpoint import KEYS, before_simulated, policy

CELLS = """(selector) => [...document.querySelectorAll(selector)].map((row) =>
    [...row.cells].map((cell) => ({
        text: cell.innerText.replace(/\\s+/g, " ").trim(),
        value: cell.querySelector("data")?.getAttribute("value") ?? null,
    })))"""


async def rows_of(page: Page, selector: str) -> list[list[dict[str, Any]]]:
    """Cells of the rows that match, each with what is seen and, where it is a number, its exact value."""
    found: list[list[dict[str, Any]]] = await page.run(f"({CELLS})({json.dumps(selector)})")
    return found


async def value_of(page: Page, selector: str) -> str:
    found: str = await page.run(f"document.querySelector('{selector} data, data{selector}').getAttribute('value')")
    return found


async def days(page: Page) -> tuple[str, str]:
    """Today and the first of this month, by the endpoint's clock."""
    today = (await page.run("document.querySelector('#head time').getAttribute('datetime')"))[:10]
    return today, f"{today[:7]}-01"


# -- numbers -----------------------------------------------------------------------------------------------------------


async def test_an_admin_s_figures_are_those_of_the_reports(page: Page, tmp_path: Path) -> None:
    """The key figures are the sum, saving, requests and fallbacks that `/v1/reports` says, to the nano-dollar."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        today, first = await days(page)
        day, month = await report(endpoint, "ops", today), await report(endpoint, "ops", first)
        assert int(await value_of(page, "#spend-day")) == day["ledger_nusd"] > 0
        assert int(await value_of(page, "#spend-month")) == month["ledger_nusd"]
        assert int(await value_of(page, "#saving")) == month["total"]["saving_nusd"]
        assert int(await value_of(page, "#requests-day")) == day["total"]["requests"] == 7
        assert int(await value_of(page, "#fell-back-day")) == day["total"]["fell_back"] == 1
        assert await page.text("#spend-day") == dollars(day["ledger_nusd"])


async def test_each_table_adds_up_to_the_ledger(page: Page, tmp_path: Path) -> None:
    """Its lines are those of the report by that grouping, and its total is the same as of the other two."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        _, first = await days(page)
        for by in ("tenant", "class", "pool"):
            said = await report(endpoint, "ops", first, by)
            rows = await rows_of(page, f"table[data-by={by}] tbody tr")
            [total] = await rows_of(page, f"table[data-by={by}] tfoot tr")
            shown = {row[0]["text"].split()[0]: int(row[3]["value"]) for row in rows}
            expected = {name: nusd for name, nusd in lines_of(said, by).items() if nusd}
            assert {name: shown[name] for name in expected} == expected
            assert sum(int(row[3]["value"]) for row in rows) == int(total[3]["value"]) == said["ledger_nusd"]


def lines_of(said: Any, by: str) -> dict[str, int]:
    """What a report says of each name: charges by tenant, busy cost by class, all container time by pool."""
    found = {line[by]: line["charged_nusd" if by == "tenant" else "busy_nusd"] for line in said["lines"]}
    for line in said["separate"] if by == "pool" else ():
        found[line["pool"]] = found.get(line["pool"], 0) + line["amount_nusd"]
    return found


async def test_caps_pools_and_failures_are_those_of_the_api(page: Page, tmp_path: Path) -> None:
    """What is spent of caps, how pools stand and what failed read as `/budgets`, `/v1/pools` and reports say."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        caps = (await endpoint.ask("GET", "/budgets", "ops")).json["data"]
        pools = (await endpoint.ask("GET", "/v1/pools", "ops")).json["data"]
        failed = (await report(endpoint, "ops", (await days(page))[0], "pool"))["failures"]
        shown_caps = {row[0]["text"]: row for row in await rows_of(page, "#caps tbody tr")}
        shown_pools = {row[0]["text"]: row for row in await rows_of(page, "#pool-table tbody tr")}
        failures = await rows_of(page, "#failures tbody tr")
    for cap in caps:
        row = shown_caps[cap["cap"]]
        assert float(row[3]["value"]) == cap["spent_usd"]
        assert row[2]["text"] == share(cap["spent_usd"] / cap["amount_usd"])
        assert row[5]["text"] == usd(cap["left_usd"], 4)
    deployed = [pool for pool in pools if pool["state"] != "not_deployed"]
    assert len(shown_pools) == len(deployed) == 4
    for pool in deployed:
        row = [cell["text"] for cell in shown_pools[pool["pool"]]]
        assert row[1].lower() == pool["state"]
        assert row[2:5] == [str(pool["ready"]), str(pool["booting"]), str(pool["in_flight"])]
        assert row[5] == ("not alive" if pool["utilisation"] is None else share(pool["utilisation"]))
        assert row[7] == seconds(pool["first_token_p50_s"])
    assert [(row[0]["text"], row[1]["text"], int(row[2]["text"])) for row in failures] == [
        (one["pool"], one["failure"], one["attempts"]) for one in failed
    ]


async def test_a_tenant_sees_its_own_and_nothing_of_others(page: Page, tmp_path: Path) -> None:
    """Its figures are what it was charged; neither another tenant's name nor the policy is anywhere in the page."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint, "acme")
        said = await report(endpoint, "acme", (await days(page))[1])
        assert int(await value_of(page, "#spend-month")) == said["total"]["charged_nusd"] == endpoint.charged_nusd()
        [total] = await rows_of(page, "table[data-by=pool] tfoot tr")
        assert await page.text("#chart-spend .sum") == dollars(endpoint.charged_nusd())
        source = await page.run("document.documentElement.outerHTML")
    assert int(total[3]["value"]) == said["total"]["charged_nusd"]
    assert not [word for word in ("globex", "ops-key", "policy.yaml", 'id="policy"', KEYS["acme"]) if word in source]


async def test_charts_are_drawn_and_stand_in_tables_too(page: Page, tmp_path: Path) -> None:
    """Each chart has a picture with something on it, and a table whose sum is that of `/v1/costs` and `/v1/usage`."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        await page.until("document.querySelectorAll('.plot canvas').length === 2")  # a moment after the numbers
        costs = (await endpoint.ask("GET", "/v1/costs?bucket_width=1h&limit=24", "ops")).json["data"]
        painted = await page.run("""[...document.querySelectorAll(".plot canvas")].map((canvas) => {
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(pixels.filter((_, at) => at % 4 === 0)).size > 2;
        })""")
        totals = await page.run("""[...document.querySelectorAll(".chart tbody")].map((body) =>
            [...body.rows].map((row) => row.cells[row.cells.length - 1].textContent))""")
    assert painted == [True, True]
    by_hour = [sum(nusd_of(one["amount"]["value"]) for one in bucket["results"]) for bucket in costs]
    assert totals[0] == [dollars(nusd, 6) for nusd in by_hour]
    assert sum(int(cell) for cell in totals[1]) == 7


async def test_charts_have_the_colours_of_their_legend(page: Page, tmp_path: Path) -> None:
    """On a light screen, on a dark one, and on either where somebody chose the other: one palette, read as it holds."""
    seen = []
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        for scheme, clicks in product(("light", "dark"), (0, 1, 1, 1)):
            await page.look(WIDE, scheme=scheme)
            await page.run("document.getElementById('theme').click()" if clicks else "0")
            await page.until(DRAWN)
            seen.append(await page.run("getComputedStyle(document.querySelector('.legend rect')).fill"))
    assert seen[0] != seen[4]
    assert seen[0:4] == [seen[0], seen[0], seen[4], seen[0]]
    assert seen[4:8] == [seen[4], seen[0], seen[4], seen[4]]


DRAWN = """(() => {
    const canvas = document.querySelector(".plot[data-chart=spend] canvas");
    if (!canvas?.width) return false;
    const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    [copy.canvas.width, copy.canvas.height] = [canvas.width, canvas.height];
    copy.drawImage(canvas, 0, 0);
    const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
    const drawn = new Set();
    for (let at = 0; at < pixels.length; at += 4) drawn.add(`rgb(${pixels.slice(at, at + 3).join(", ")})`);
    return ["series-1", "series-3", "series-4"].every((name) =>
        drawn.has(getComputedStyle(document.querySelector(`.legend .${name}`)).fill));
})()"""


# -- what happens while one looks --------------------------------------------------------------------------------------


async def test_requests_appear_as_they_end(page: Page, tmp_path: Path) -> None:
    """A row for each, as the list has it, newest first and once; those who cannot see are told how many came."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        await page.until("document.getElementById('feed-state').textContent === 'Live'")
        made = [(await endpoint.chat("acme", max_tokens=5)).headers["x-sluice-request-id"] for _ in range(2)]
        await page.until(f"document.querySelector('#feed-rows tr').dataset.id === '{made[1]}'")
        await page.run("document.dispatchEvent(new Event('visibilitychange'))")
        await page.until("document.getElementById('feed-news').textContent !== ''")
        ids = await page.run("[...document.querySelectorAll('#feed-rows tr')].map((row) => row.dataset.id)")
        listed = (await endpoint.ask("GET", "/v1/decisions", "ops")).json["data"]
        costs = [row[-1] for row in await rows_of(page, "#feed-rows tr")]
        assert await page.text("#feed-news") in ("2 new requests", "One new request")
    assert ids == [one["request_id"] for one in listed]
    assert [(float(cell["value"]), cell["text"]) for cell in costs] == [
        (one["cost_usd"], usd(one["cost_usd"], 6)) for one in listed
    ]


async def test_the_feed_can_be_paused(page: Page, tmp_path: Path) -> None:
    """While paused nothing moves and the page says how many wait; afterwards they are there."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        await page.until("document.getElementById('feed-state').textContent === 'Live'")
        await page.run("document.getElementById('pause').click()")
        made = (await endpoint.chat("acme", max_tokens=5)).headers["x-sluice-request-id"]
        await page.until("document.getElementById('feed-state').textContent === 'Paused, 1 new'")
        assert await page.run(f"document.querySelector('[data-id=\"{made}\"]')") is None
        await page.run("document.getElementById('pause').click()")
        await page.until(f"document.querySelector('[data-id=\"{made}\"]') !== null")


async def test_what_changed_in_the_policy_appears_by_itself(page: Page, tmp_path: Path) -> None:
    """After a reload the page has the new version and its differences, without being opened again."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        text = json.loads((endpoint.files / "policy.yaml").read_text())
        text["aliases"]["gpt-4o"] = "chat:premium"
        before = endpoint.service.policy.version
        endpoint.write_policy(text)
        async with asyncio.timeout(30):
            while (version := endpoint.service.policy.version) == before:
                await endpoint.ask("GET", "/health/liveness")
        await page.run("document.dispatchEvent(new Event('visibilitychange'))")
        await page.until(f"document.getElementById('policy-version').textContent === '{version}'")
        assert "gpt-4o" in await page.text("#policy ins")
        assert before in await page.text("#policy h3")


async def test_a_request_opens_into_its_explanation(page: Page, tmp_path: Path) -> None:
    """In place, with its attempts and choices; Escape closes it and gives the focus back. Its own page is the same."""
    async with with_traffic(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        [moved] = (await endpoint.ask("GET", "/v1/decisions?moved=true", "ops")).json["data"]
        link = f'#feed-rows [data-id="{moved["request_id"]}"] a'
        await page.run(f"document.querySelector({json.dumps(link)}).focus()")
        await page.press("Enter")
        await page.until("document.getElementById('explanation').open")
        shown = await page.text("#explanation article")
        await page.press("Escape")
        await page.until("!document.getElementById('explanation').open")
        assert await page.run(f"document.activeElement === document.querySelector({json.dumps(link)})")
        await page.open(f"{endpoint.url}/dashboard/decisions/{moved['request_id']}")
        alone = await page.text("#decision")
    assert [each["pool"] in shown for each in moved["attempts"]] == [True] * len(moved["attempts"])
    assert "unavailable" in shown
    assert shown in alone.replace("← Overview ", "")


# -- keys --------------------------------------------------------------------------------------------------------------


async def test_a_wrong_key_gets_in_nowhere(page: Page, tmp_path: Path) -> None:
    """The form says so in words that are read out, and no session begins."""
    async with before_simulated(tmp_path) as endpoint:
        await page.open(f"{endpoint.url}/")
        await page.type("sk-wrong")
        page.loaded.clear()
        await page.press("Enter")
        await asyncio.wait_for(page.loaded.wait(), 30)
        assert "not known" in await page.text("[role=alert]")
        assert (await page.call("Network.getCookies", urls=[endpoint.url]))["cookies"] == []
        assert [complaint for complaint in page.complaints if "401" not in complaint] == []
        page.complaints.clear()  # the browser notes that the answer was 401


async def test_signing_out_ends_the_session(page: Page, tmp_path: Path) -> None:
    """Afterwards neither the page nor the old cookie shows anything; scripts never had the cookie."""
    async with before_simulated(tmp_path) as endpoint:
        await sign_in(page, endpoint)
        [cookie] = (await page.call("Network.getCookies", urls=[endpoint.url]))["cookies"]
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
        assert KEYS["ops"] not in cookie["value"]
        assert cookie["value"] not in await page.run("document.cookie")
        await page.click_and_load("form[action='/dashboard/logout'] button")
        assert await page.run("location.pathname") == "/dashboard/login"
        old = await endpoint.ask("GET", "/", None, headers={"Cookie": f"{cookie['name']}={cookie['value']}"})
    assert "Sign in" in old.body.decode()


async def test_without_tenants_this_machine_needs_no_key(page: Page, tmp_path: Path) -> None:
    """What the API shows on loopback without a key, the dashboard shows too."""
    async with before_simulated(tmp_path, policy(tenants={}), awake=("mid",)) as endpoint:
        await endpoint.ask(
            "POST", "/v1/chat/completions", None, json={"model": "chat", "messages": [], "max_tokens": 1}
        )
        await page.open(f"{endpoint.url}/")
        assert await page.text("h1") == "Overview"
        assert "local" in await page.text(".who")
        assert await page.run("document.querySelector('form[action=\"/dashboard/logout\"]')") is None
