"""Reports over rows of several policy versions: every surface says the same, and it is what the rows say by hand."""

from __future__ import annotations

import asyncio
import html
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from pricing.ledger.policy_history import policy_versions
from pricing.money import half_even_nusd
from router.cli.main import app
from support.endpoint import Endpoint, Policy, before_scripts, policy
from support.ledgers import recent_requests
from support.scripted_server import Exchange

HOUR_US: Final = 3_600_000_000
ANSWER: Final = json.dumps(
    {
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 400, "total_tokens": 1_300},
    }
).encode()
WINDOW: Final = "by=policy&since=2000-01-01&until=2100-01-01"


async def good(exchange: Exchange) -> None:
    await exchange.answer("200 OK", ANSWER)


def premium(*pools: str) -> Policy:
    """`chat` runs on `small`, and its premium pool is the first of these."""
    return policy(classes={"chat": {"ladder": {"economy": ["small"], "premium": list(pools)}}})


@dataclass(frozen=True)
class Edited:
    """An endpoint whose premium pool was edited between requests.

    By version: the premium pool with what one container of it cost an hour, in nano-dollars, and the policy file.
    """

    endpoint: Endpoint
    pools: Mapping[str, tuple[str, int]]
    files: Mapping[str, bytes]

    def by_hand(self) -> dict[str, tuple[int, int]]:
        """By premium pool: (nano-dollars, container microseconds), from the requests' own rows."""
        sums: dict[str, int] = dict.fromkeys(self.pools, 0)
        for each in recent_requests(self.endpoint.ledger, 100):
            sums[each.policy_version] += each.baseline_nusd or 0
        return {self.pools[one][0]: (n, half_even_nusd(n * HOUR_US, self.pools[one][1])) for one, n in sums.items()}

    async def api(self, query: str = WINDOW) -> Any:
        reply = await self.endpoint.ask("GET", f"/v1/reports?{query}", "ops")
        assert reply.status == 200, reply.body
        return reply.json


@pytest.fixture
async def edited(tmp_path: Path) -> AsyncIterator[Edited]:
    """Three requests with `big` as premium pool, then two with `mid`."""
    pools, files = {}, {}
    async with before_scripts(tmp_path, {"small": good}, premium("big")) as endpoint:
        endpoints = {"endpoints": {"small": {"url": endpoint.upstream["small"].url, "always_on": 1}}}
        for name, count in (("big", 3), ("mid", 2)):
            endpoint.write_policy({**premium(name), **endpoints})
            endpoint.service.reloader.check_once()
            now = endpoint.service.policy
            pools[now.version] = (name, now.rates[name].nusd_per_h)
            files[now.version] = (endpoint.files / "policy.yaml").read_bytes()
            for _ in range(count):
                assert (await endpoint.chat(model="gpt-4o-mini", max_tokens=400)).status == 200
        await endpoint.requests(5)
        async with asyncio.timeout(30):
            while len(await asyncio.to_thread(policy_versions, endpoint.ledger, 9)) < 2:
                pass
        yield Edited(endpoint, pools, files)


async def said(ledger: Path, *words: str) -> Any:
    """What `sluice report` says of the same window."""
    asked = [
        "report",
        *(word for pair in WINDOW.split("&") for word in (f"--{pair.split('=')[0]}", pair.split("=")[1])),
    ]
    result = await asyncio.to_thread(CliRunner().invoke, app, [*asked, "--ledger", str(ledger), *words])
    assert result.exit_code == 0, result.output
    return result.output


async def test_command_and_route_say_what_each_version_says_by_hand(edited: Edited) -> None:
    """Each row's baseline is the premium pool of the policy that it came under, at that policy's rate, on both."""
    told = await edited.api()
    assert json.loads(await said(edited.endpoint.ledger, "--format", "json")) == told
    by_hand = edited.by_hand()
    assert set(by_hand) == {"big", "mid"}
    assert {each["pool"]: round(each["container_s"] * 1e6) for each in told["baseline_needed"]} == {
        pool: container_us for pool, (_, container_us) in by_hand.items()
    }
    assert {each["pool"]: round(each["usd"] * 1e9) for each in told["baseline_needed"]} == {
        pool: nusd for pool, (nusd, _) in by_hand.items()
    }
    assert told["total"]["baseline_nusd"] == sum(nusd for nusd, _ in by_hand.values()) > 0
    assert told["baseline_not_known"] == []


async def test_lines_by_policy_are_what_their_rows_say(edited: Edited) -> None:
    """Each version's saving is its own baseline less its own busy cost, and they add up to the total."""
    document = await edited.api()
    rows = recent_requests(edited.endpoint.ledger, 100)
    for line in document["lines"]:
        baseline_nusd = sum(each.baseline_nusd or 0 for each in rows if each.policy_version == line["policy"])
        assert line["baseline_nusd"] == baseline_nusd > 0
        assert line["saving_nusd"] == baseline_nusd - line["busy_nusd"]
    assert sum(line["saving_nusd"] for line in document["lines"]) == document["total"]["saving_nusd"]


async def test_every_form_says_the_same_of_what_was_needed(edited: Edited) -> None:
    """The table, the page and the page over HTTP end with one sentence, whose hours are those of the JSON."""
    page = (await edited.endpoint.ask("GET", f"/v1/reports?{WINDOW}&format=html", "ops")).body.decode()
    footer = html.unescape(re.sub(r"<[^>]+>", " ", page[page.index("<footer>") :]))
    table = await said(edited.endpoint.ledger)
    [sentence] = re.findall(r"Baseline: .*\.", " ".join(table.split()))
    assert sentence in " ".join(footer.split())
    for each in (await edited.api())["baseline_needed"]:
        assert f"{each['container_s']:.1f} s of {each['pool']} (1 × {each['gpu']}, " in sentence


async def test_what_a_ledger_does_not_know_no_surface_makes_up(edited: Edited, tmp_path: Path) -> None:
    """A version from before premium pools were noted: its hours are nobody's, wherever they are asked for, though its
    saving, which was recorded, stays; with its files the command knows them.
    """
    [old, new] = edited.pools
    with sqlite3.connect(edited.endpoint.ledger) as connection:
        connection.execute("UPDATE policy_versions SET premium = NULL WHERE version = ?", [old])
    told = await edited.api()
    assert json.loads(await said(edited.endpoint.ledger, "--format", "json")) == told
    assert [each["pool"] for each in told["baseline_needed"]] == [edited.pools[new][0]]
    [unknown] = told["baseline_not_known"]
    assert (unknown["policy"], unknown["baseline_nusd"]) == (old, edited.by_hand()["big"][0])
    assert told["total"]["baseline_nusd"] == unknown["baseline_nusd"] + edited.by_hand()["mid"][0]
    (tmp_path / "old.yaml").write_bytes(edited.files[old])
    given = json.loads(await said(edited.endpoint.ledger, "--format", "json", "--policy", str(tmp_path / "old.yaml")))
    assert {each["pool"]: round(each["container_s"] * 1e6) for each in given["baseline_needed"]} == {
        pool: container_us for pool, (_, container_us) in edited.by_hand().items()
    }
    assert given["baseline_not_known"] == []
