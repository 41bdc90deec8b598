"""Whatever is done to a shipped policy file, it compiles, or it is told what is wrong with it, and where."""

from __future__ import annotations

import copy
import io
import re
import tempfile
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from policies.compile.load import load_policy
from policies.files.fileset import SHIPPED_FOLDER
from pricing.errors import FileProblem
from pricing.files.document import read_yaml
from pricing.prices.book import SHIPPED_FOLDER as BOOKS
from support.choosing import NOW_US

MORE = """
tenants:
  acme:
    classes: [chat]
    tags: [paying]
    keys: [{id: acme-1, sha256: HASH, rights: [admin], tags: [batch], limits: {requests_per_minute: 5}}]
    limits: {tokens_per_minute: 5, in_flight: unlimited}
    caps:
      - {name: day, amount_usd: 5, window: 24h, thresholds: {warn: 50%, lower_tier: 90%}}
      - {name: month, amount_usd: 0.5, window: 1mo, raises: [{amount_usd: 2, until: "2026-02-01"}]}
caps: [{name: t4, amount_usd: 1, window: 24h, scope: "pool:qwen3-4b-fp16-t4"}]
endpoints: {qwen3-4b-fp16-t4: {url: "https://x", api_key: "${K}", headers: {X-Key: "${K}"}, always_on: 1}}
platform:
  modal: {app_prefix: a, secrets: [s], router: {secrets: {s: [K]}}}
  kubernetes: {deployments: {mine: {name: d}}}
drained: [qwen3-4b-bf16-a10]
store: {allowance_usd: 5, durability: always}
predict: {output_tokens: history}
webhooks: [{url: "https://x", secret: "${S}", events: [cap_warned]}]
pools: {mine: {extends: qwen3-4b-fp16-t4, gpu: L4, features: [tools], engine_args: {max-num-batched-tokens: 2048}}}
price_books: [book.yaml]
""".replace("HASH", "ab" * 32)
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 3.5, 10**20, 10**300, 1e-300, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "chat", "a" * 300, "é", "\0", "unlimited", "off", "80%", "nan%", "1e999999999%", "1e999999999", "nan"),
    *("24h", "0h", "1mo", "2026-13-01", "../..", "/", "${X", "${X}", "tenant:", "pool:mine", ":", "T4", "premium"),
    *([], {}, [[]], [None], ["x"], {"a": 1}, {"": None}, ["chat", "chat"], {"sha256": "x"}),
    *(date(1, 1, 1), date(9999, 12, 31), "9999-12-31T23:59:59-14:00", "modal-2026-10", "qwen3-4b-fp16-t4"),
]
KEYS: list[Any] = [1, 1.5, True, None, "", "a b", "é", "__idle__", "\0", date(2026, 1, 1)]
PLACE = re.compile(r"(?s)\S+:[1-9][0-9]*: \S.*")


@cache
def shipped() -> list[Any]:
    """The policies, and the default one with a section of every kind; beside each, a price book of its own."""
    found = [read_yaml(path).data for path in sorted(SHIPPED_FOLDER.glob("*.yaml"))]
    default, more = read_yaml(SHIPPED_FOLDER / "default.yaml").data, YAML(typ="safe").load(MORE)
    book = {**read_yaml(BOOKS / "modal-2026-10.yaml").data, "id": "mine", "series": "mine"}
    return [{"policy": {**default, **more}, "book": book}, *({"policy": data, "book": book} for data in found)]


def places(data: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(data, dict | list):
        for step in data if isinstance(data, dict) else range(len(data)):
            yield (*where, step)
            yield from places(data[step], (*where, step))


def change(files: Any, draw: st.DataObject) -> None:
    """Delete, replace, rename, repeat or move one value of one file."""
    *way, last = draw.draw(st.sampled_from([place for place in places(files) if len(place) > 1]))
    holder = files
    for step in way:
        holder = holder[step]
    how = draw.draw(st.sampled_from(["delete", "replace", "replace", "rename", "move"]))
    if how == "delete":
        del holder[last]
    elif how == "rename" and isinstance(holder, dict):
        holder[draw.draw(st.sampled_from([*KEYS, f"{last}x"]))] = holder.pop(last)
    elif how == "move":
        elsewhere = draw.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        holder[last] = copy.deepcopy(holder[elsewhere])
    else:
        holder[last] = copy.deepcopy(draw.draw(st.sampled_from(VALUES)))


def text_of(data: Any) -> str:
    written = io.StringIO()
    YAML(typ="safe", pure=True).dump(data, written)
    return written.getvalue()


def problems_of(files: Any, served: bool) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.yaml")
        policy.write_text(text_of(files["policy"]), encoding="utf-8")
        policy.with_name("book.yaml").write_text(text_of(files["book"]), encoding="utf-8")
        try:
            load_policy([policy], environ={}, now_us=NOW_US, assume_deployed=not served)
        except FileProblem as error:
            return error.problems
    return []


def test_unchanged_they_compile() -> None:
    """So that what is found below comes from the changes alone."""
    assert [problems_of(files, served=False) for files in shipped()] == [[] for _ in shipped()]


@given(st.integers(0, 4), st.integers(1, 3), st.booleans(), st.data())
@settings(max_examples=80)
def test_a_changed_policy_compiles_or_says_where_it_is_wrong(
    which: int, changes: int, served: bool, draw: st.DataObject
) -> None:
    """Never with an error that is not about the file: each problem has its file and line."""
    files = copy.deepcopy(shipped()[which % len(shipped())])
    for _ in range(changes):
        change(files, draw)
    assert [problem for problem in problems_of(files, served) if not PLACE.fullmatch(problem)] == []
