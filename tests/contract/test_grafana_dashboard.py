"""The shipped dashboard for Grafana: its queries are such as Prometheus takes, on metrics that we have, and mean what
their panels say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from router.alerts import GRAFANA, RULES
from router.cli.alerts import app
from support.grafana import DOCUMENT, PANELS, Query, queries
from support.metrics_page import METRICS, OF_TENANTS
from support.promtool import Series, promtool, rules

QUERIES = queries()
OF_PROMETHEUS = {"job", "instance"}


def test_the_command_prints_the_file() -> None:
    """Byte for byte, for Grafana to import."""
    assert CliRunner().invoke(app, ["--grafana"]).stdout == GRAFANA.read_text(encoding="utf-8")


def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    """As the expression of a rule, with Grafana's variables filled in, and none forgotten."""
    path = tmp_path / "queries.rules.yaml"
    recorded = [{"record": query.name, "expr": query.expr} for query in QUERIES]
    with path.open("w", encoding="utf-8") as stream:
        YAML(typ="safe").dump({"groups": [{"name": "queries", "rules": recorded}]}, stream)
    done = promtool("check", "rules", "--lint=all", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout
    assert [query.expr for query in QUERIES if "$" in query.expr] == []


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_query_names_metrics_and_labels_that_there_are(query: Query) -> None:
    """Every selector's metric has the labels that it is filtered by, groups are of some, and legends of groups."""
    named = list(query.selectors)
    assert named
    known: set[str] = set()
    for name, filtered in named:
        assert name in METRICS, name
        assert not METRICS[name].text.startswith(OF_TENANTS), "it is there where somebody asked for it only"
        assert filtered <= METRICS[name].labels | OF_PROMETHEUS, name
        assert filtered >= OF_PROMETHEUS, "what Job and Replica narrow must hold for all of a panel"
        known |= METRICS[name].labels | ({"le"} if METRICS[name].kind == "histogram" else set())
    assert query.grouped_by <= known
    assert query.shown <= query.grouped_by


def test_queries_ask_of_each_metric_what_its_kind_has() -> None:
    """Counters and histograms are asked for their rate or increase, gauges never are."""
    for query in QUERIES:
        counted = re.findall(r"\b(?:rate|increase)\((\w+)", query.expr)
        for name in re.findall(r"\b((?:sluice|gen_ai)_\w+)\{", query.expr):
            assert (METRICS[name].kind == "gauge" if name in METRICS else False) is (name not in counted), name


def test_panels_have_places_of_their_own() -> None:
    """Ids are unique, and no panel lies on another or beyond the page's 24 columns."""
    assert len({panel["id"] for panel in DOCUMENT["panels"]}) == len(DOCUMENT["panels"])
    places = [(panel["title"], panel["gridPos"]) for panel in DOCUMENT["panels"]]
    assert [title for title, at in places if at["x"] + at["w"] > 24] == []
    assert [(one, other) for (one, a), (other, b) in combinations(places, 2) if overlap(a, b)] == []


def overlap(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    across = a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
    return across and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def test_panels_say_what_they_show_and_ask_the_chosen_prometheus() -> None:
    """A sentence and a unit each; alerts that are named are there; no data source is written into the file."""
    alerts = rules(RULES)
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert set(re.findall(r"\bSluice[A-Z]\w+", panel["description"])) <= alerts.keys()
    found = re.findall(r'"uid": "([^"]+)"', json.dumps(DOCUMENT))
    assert set(found) == {"${datasource}", DOCUMENT["uid"]}


# -- what the numbers are ----------------------------------------------------------------------------------------------

ON: str = 'job="sluice",instance="a"'
OTHER: str = 'job="sluice",instance="b"'
Samples = Mapping[str, float]
NUMBERS: list[tuple[str, Series, Samples]] = [
    (
        "Requests a second",
        {
            f'sluice_requests_total{{class="chat",outcome="served",status="200",{ON}}}': "0+60x100",
            f'sluice_requests_total{{class="chat",outcome="served",status="200",{OTHER}}}': "0+120x100",
        },
        {"{}": 3},
    ),
    (
        "Failed for no fault of their clients",
        {
            f'sluice_requests_total{{outcome="served",status="200",{ON}}}': "0+90x100",
            f'sluice_requests_total{{outcome="refused",status="503",{ON}}}': "0+5x100",
            f'sluice_requests_total{{outcome="broken",status="200",{ON}}}': "0+5x100",
            f'sluice_requests_total{{outcome="refused",status="429",{ON}}}': "0+100x100",
        },
        {"{}": 0.05},
    ),
    (
        "Failed for no fault of their clients",
        {f'sluice_requests_total{{outcome="served",status="200",{ON}}}': "0+90x100"},
        {"{}": 0},
    ),
    (
        "Spend an hour",
        {
            f'sluice_attempts_usd_total{{pool="l4",outcome="answered",{ON}}}': "0+2x100",
            f'sluice_house_usd_total{{pool="l4",account="__idle__",{ON}}}': "0+1x100",
            f'sluice_house_usd_total{{pool="l4",account="__failed__",{ON}}}': "0+7x100",
            f'sluice_house_returned_usd_total{{pool="l4",account="__adjustment__",{ON}}}': "0+0.5x100",
        },
        {"{}": 150},
    ),
    (
        "Spend by pool",
        {
            f'sluice_attempts_usd_total{{pool="l4",outcome="answered",{ON}}}': "0+2x100",
            f'sluice_attempts_usd_total{{pool="api",outcome="answered",{ON}}}': "0+3x100",
            f'sluice_house_usd_total{{pool="l4",account="__boot__",{ON}}}': "0+1x100",
        },
        {'{pool="l4"}': 180, '{pool="api"}': 180},
    ),
    (
        "Saved on busy time",
        {
            f'sluice_baseline_usd_total{{class="chat",{ON}}}': "0+5x100",
            f'sluice_baseline_charged_usd_total{{class="chat",{ON}}}': "0+2x100",
        },
        {"{}": 180},
    ),
    (
        "Utilisation",
        {
            f'sluice_container_seconds_total{{pool="l4",phase="busy",evidence="observed",{ON}}}': "0+15x100",
            f'sluice_container_seconds_total{{pool="l4",phase="idle",evidence="observed",{ON}}}': "0+30x100",
            f'sluice_container_seconds_total{{pool="l4",phase="boot",evidence="modelled",{ON}}}': "0+15x100",
        },
        {'{pool="l4"}': 0.25},
    ),
    (
        "Warm containers",
        {
            f'sluice_pool_containers_ready{{pool="l4",{ON}}}': "2x100",
            f'sluice_pool_containers_ready{{pool="l4",{OTHER}}}': "2x100",
        },
        {'{pool="l4"}': 2},
    ),
    (
        "Caps",
        {
            f'sluice_budget_spent_usd{{cap="acme/day",{ON}}}': "6x100",
            f'sluice_budget_held_usd{{cap="acme/day",{ON}}}': "2x100",
            f'sluice_budget_cap_usd{{cap="acme/day",{ON}}}': "10x100",
            f'sluice_budget_spent_usd{{cap="nothing",{ON}}}': "0x100",
            f'sluice_budget_held_usd{{cap="nothing",{ON}}}': "0x100",
            f'sluice_budget_cap_usd{{cap="nothing",{ON}}}': "0x100",
        },
        {'{cap="acme/day"}': 0.8},
    ),
    (
        "Not ready for money",
        {
            f"sluice_store_down{{{ON}}}": "1x100",
            f"sluice_store_down{{{OTHER}}}": "0x100",
            f"sluice_loops_dead{{{ON}}}": "0x100",
            f"sluice_loops_dead{{{OTHER}}}": "1x100",
        },
        {"{}": 2},
    ),
    (
        "Policies in force",
        {
            f'sluice_config_info{{version="aa",{ON}}}': "1x100",
            f'sluice_config_info{{version="aa",{OTHER}}}': "1x100",
        },
        {'{version="aa"}': 2},
    ),
]


def test_the_numbers_are_what_their_panels_say(tmp_path: Path) -> None:
    """Over series of which the answer is known, replicas and series that are not there included."""
    tests: list[dict[str, Any]] = []
    for title, series, samples in NUMBERS:
        [query] = [query for query in QUERIES if query.panel == title]
        asked = {
            "expr": f"round({query.expr}, 0.001)",
            "eval_time": "80m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [asked],
            }
        )
    path = tmp_path / "numbers.tests.yaml"
    with path.open("w", encoding="utf-8") as stream:
        YAML(typ="safe").dump({"evaluation_interval": "1m", "tests": tests}, stream)
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
