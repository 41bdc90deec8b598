"""docs/from-the-documents.md: its requests and scripts run, its table of costs is the catalogue's."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.fit.timing import EAGER, boot_seconds
from pools.modal.settings import RouterSettings
from pricing.clock import US_PER_S
from pricing.money import cost_nusd, format_usd
from pricing.prices.book import shipped_books
from pricing.prices.rates import plain_container_rate
from support.docs import blocks
from support.endpoint import KEYS, Endpoint, before_simulated
from support.endpoint import policy as small_policy
from support.repository import ROOT
from support.values import replace

PAGE = ROOT / "docs" / "from-the-documents.md"
ENDPOINT = "http://127.0.0.1:8080"
DAY_US = 86_400 * US_PER_S
SCRIPTS = [block for block in blocks(PAGE) if block.info == "python"]
VERBS = ("curl", "sluice")
POOLS = (
    *("qwen3-vl-8b-bf16-l40s", "qwen3-vl-8b-fp8-a10", "qwen3-vl-8b-awq-t4"),
    *("qwen3-next-80b-fp8-h200", "qwen3-coder-480b-fp8-4xh200"),
    *("qwen3-4b-bf16-a10", "qwen3-4b-bf16-a100-40", "qwen2.5-coder-7b-bf16-a10", "qwen3-coder-30b-fp8-a100-40"),
)


def curls() -> list[list[str]]:
    """The words of each `curl` of the page; their bodies go over several lines."""
    words = [
        word for block in blocks(PAGE) if block.info == "sh" for word in shlex.split(block.text.replace("\\\n", " "))
    ]
    starts = [place for place, word in enumerate(words) if word in VERBS]
    found = [words[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [one[1:] for one in found if one[0] == "curl"]


def files() -> dict[str, Any]:
    """The classes that the page names, over pools that boot in a second."""
    return small_policy(
        classes={
            "chat": {"ladder": {"economy": ["small"], "standard": ["mid"], "premium": ["big"]}},
            "code": {"ladder": {"standard": ["other"], "premium": ["big"]}},
        },
        aliases={"Qwen3-4B-Instruct-2507": "chat:economy"},
    )


async def run(endpoint: Endpoint, words: list[str]) -> tuple[str, Any, Any]:
    """One `curl` of the page against this endpoint: path, what was sent, what was answered, as JSON."""
    given: dict[str, list[str]] = {"-X": [], "-H": [], "-d": [], "url": []}
    option = "url"
    for word in words:
        if word in given:
            option = word
        else:
            given[option].append(word.replace("$SLUICE_KEY", KEYS["ops"]))
            option = "url"
    [url], body = given["url"], given["-d"]
    assert url.startswith(ENDPOINT)
    headers = dict(line.split(": ", 1) for line in given["-H"])
    path = url.removeprefix(ENDPOINT)
    reply = await endpoint.ask("".join(given["-X"]) or "GET", path, None, headers=headers, data="".join(body) or None)
    assert reply.status < 300, (words, reply.body)
    return path, json.loads(body[0]) if body else {}, reply.json


async def ready(endpoint: Endpoint, model: str) -> None:
    """As the page says: health tells when a model that was warmed up is there."""
    async with asyncio.timeout(30):
        while (await endpoint.ask("GET", f"/health/{model}", None)).json["status"] != "ready":
            pass


async def test_every_request_is_answered_as_the_document_had_it(tmp_path: Path) -> None:
    """In the page's order: health, warm-up, text, an object that keeps to its schema, a chat completion."""
    asked = curls()
    assert len(asked) == 9
    async with before_simulated(tmp_path, files()) as endpoint:
        for words in asked:
            path, sent, answer = await run(endpoint, words)
            if "/warmup" in path:
                await ready(endpoint, path.partition("model=")[2])
            elif "/health" in path:
                assert answer["status"] == "asleep" or answer["ready_in_s"] == 0
            elif "schema" in sent:
                jsonschema.validate(answer["text"], sent["schema"])
            elif "prompt" in sent:
                assert isinstance(answer["text"], str)
                assert answer["usage"]["cost"] > 0
            else:
                assert answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.place)
async def test_every_script_runs(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python of the page runs as it stands, but for the address, and prints what it was asked to."""
    monkeypatch.setenv("SLUICE_KEY", KEYS["acme"])
    async with before_simulated(tmp_path, files(), awake=("big", "other")) as endpoint:
        code = compile(script.text.replace(ENDPOINT, endpoint.url), script.place, "exec")
        await asyncio.to_thread(exec, code, {})
    assert len(capsys.readouterr().out.splitlines()) >= script.text.count("print(")


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load_policy([], environ={}, now_us=1_795_000_000 * US_PER_S, assume_deployed=True)


def cost_row(policy: Policy, name: str) -> str:
    """The row of a pool in "What settings cost"."""
    rate, boot_s = policy.rates[name].nusd_per_h, policy.boots_s[name]
    window_s = policy.pools[name].scaledown_window_s
    boot = format_usd(cost_nusd(rate, round(boot_s * US_PER_S)))
    window = format_usd(cost_nusd(rate, round(window_s * US_PER_S)))
    day = format_usd(cost_nusd(rate, DAY_US), 2)
    return f"| `{name}` | {format_usd(rate)} | {boot_s:.0f} s | {boot} | {window_s:.0f} s | {window} | {day} |"


def test_the_table_of_costs_is_the_catalogue_s(shipped: Policy) -> None:
    """Rate, boot, idle window and a warm day of each pool that the page names, at the shipped price book."""
    section = PAGE.read_text(encoding="utf-8").split("## What settings cost\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [cost_row(shipped, name) for name in POOLS]


ROUTER = RouterSettings({})
SETTINGS = ("qwen3-next-80b-fp8-h200", "qwen3-coder-480b-fp8-4xh200")


def settings_row(policy: Policy, name: str) -> str:
    """The row of a pool in the table of eager mode, windows and a warm container."""
    rate, pool = policy.rates[name].nusd_per_h, policy.pools[name]

    def cost(seconds: float) -> int:
        return cost_nusd(rate, round(seconds * US_PER_S))

    boot, window, day = cost(boot_seconds(pool)), cost(600), cost(86_400)
    eager = cost(boot_seconds(replace(pool, engine_args={**pool.engine_args, EAGER: True})))
    cells = [format_usd(each) for each in (boot, eager, cost(300), window)]
    return f"| `{name}` | {' | '.join(cells)} | {format_usd(day, 2)} | {-(-day // (boot + window))} bursts a day |"


def test_the_settings_of_the_large_models_cost_what_the_page_says(shipped: Policy) -> None:
    """Eager mode shortens the modelled boot; a warm container pays once enough bursts each buy boot and window."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.endswith("bursts a day |")]
    assert rows == [settings_row(shipped, name) for name in SETTINGS]


def test_the_endpoint_on_modal_costs_what_the_page_says() -> None:
    """By its own plan, with its defaults."""
    rate = plain_container_rate(shipped_books()["modal-2026-10"], ROUTER.cpu_cores, ROUTER.memory_gib)
    day = format_usd(cost_nusd(rate.nusd_per_h * ROUTER.min_containers, DAY_US), 2)
    assert f"two containers without a GPU cost {day} a day" in PAGE.read_text(encoding="utf-8")


def test_every_pool_that_the_page_names_is_shipped(shipped: Policy) -> None:
    """A code span that looks like a pool's name is one."""
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:qwen|flux|wan|sdxl|instantid|seedvr)[\w.]*-[\w.-]+)`", text))
    assert named
    assert named <= set(shipped.pools)
