"""docs/metrics.md has every event of the log with its fields, every sentence that is logged, and what alerts name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from router.alerts import RULES
from router.telemetry.events import Event
from support.metrics_page import METRICS, PAGE
from support.promtool import rules
from support.repository import product_modules, tree

ALERTS_PAGE = (PAGE.parent / "alerts.md").read_text(encoding="utf-8")
LOGS = PAGE.read_text(encoding="utf-8").partition("\n## Logs\n")[2]
SHOWN_SUFFIX = ("_bucket", "_count", "_sum")


def rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@pytest.mark.parametrize("event", get_args(Event), ids=lambda event: event.__name__)
def test_an_event_s_row_has_its_fields(event: Any) -> None:
    """Each field that its lines have, in their order, and no other."""
    [fields] = [cells[2] for cells in rows(LOGS) if cells[0] == f"`{event.__name__}`"]
    named = re.findall(r"`(\w+)`", fields.partition("; and ")[0])
    assert named == list(event.__struct_fields__)


def test_no_row_is_of_an_event_that_is_not_there() -> None:
    """Names in the first table are events, and each has one row."""
    events = sorted(cells[0].strip("`") for cells in rows(LOGS) if re.fullmatch(r"`[A-Z]\w+`", cells[0]))
    assert events == sorted(event.__name__ for event in get_args(Event))


def logged() -> Iterator[tuple[str, str]]:
    """Sentence and level of each line that the product logs."""
    for path in product_modules():
        for node in ast.walk(tree(path)):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="LOGGER"), attr=level),
                    args=[ast.Constant(value=str(sentence)), *_],
                ):
                    yield sentence, level.replace("exception", "error")


def test_every_sentence_that_is_logged_is_explained() -> None:
    """With the level that it has, and none that nobody says."""
    explained = {(cells[0].strip("`"), cells[1]) for cells in rows(LOGS) if not re.fullmatch(r"`[A-Z]\w+`", cells[0])}
    assert explained == set(logged())


def test_rules_name_metrics_and_labels_that_there_are() -> None:
    """An alert on a name that nobody says would be silent for ever."""
    found = []
    for alert, rule in rules(RULES).items():
        names = set(re.findall(r"\b(?:sluice|gen_ai)_\w+", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", rule["expr"])))
        bare = {name for name in names if name in METRICS}
        bare |= {name.rsplit("_", 1)[0] for name in names if name.endswith(SHOWN_SUFFIX) and name not in METRICS}
        found += [f"{alert}: {name}" for name in bare if name not in METRICS]
        known = {"le", *(label for name in bare if name in METRICS for label in METRICS[name].labels)}
        asked = re.findall(r"[{,] *(\w+) *(?:=~|!~|!=|=)", rule["expr"])
        asked += [label for listed in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in re.split(r", *", listed)]
        shown = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        found += [f"{alert}: label {label}" for label in [*asked, *shown] if label not in known | {"instance"}]
    assert found == []


def test_every_alert_has_a_section_with_its_severity() -> None:
    """What it means, what to look at and what to do; and no section is of an alert that was taken away."""
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", ALERTS_PAGE, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(rules(RULES))
    for name, rule in rules(RULES).items():
        assert sections[name].startswith(f"*{rule['labels']['severity'].capitalize()}.* ")
        assert "\n- Look at: " in sections[name]
        assert "\n- Do: " in sections[name]
