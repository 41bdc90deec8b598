"""Prometheus' own checker, `promtool`, and the tests of alert rules that it runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

NO_PROGRAM: Final = "no promtool: install the distribution's package `prometheus`, or promtool alone from it"

Series = Mapping[str, str]
"""Values by series, a value a minute, in promtool's notation: `0+5x60` begins at 0 and grows by 5, sixty times."""


@dataclass(frozen=True)
class Case:
    """What one alert makes of series: `fires` are the labels of those that fire after `minutes`, without its severity.
    With a `summary` its text counts, else that it fires.
    """

    alert: str
    series: Series
    fires: Sequence[Mapping[str, str]] = ({},)
    minutes: int = 60
    summary: str | None = None


def promtool(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it. Where it is not installed the test is skipped, which CI does not let pass."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip(NO_PROGRAM)
    return subprocess.run([program, *words], input=stdin, capture_output=True, text=True, check=False, timeout=300)


def rules(path: Path) -> dict[str, dict[str, Any]]:
    """The alerts of a file by name."""
    groups = YAML(typ="safe").load(path)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def write_tests(folder: Path, known: Mapping[str, Any], cases: Sequence[Case]) -> list[str]:
    """Files that `promtool test rules` runs, one an alert with that alert alone: each test evaluates all rules there
    are, minute by minute.
    """
    return [_write_tests(folder, known[name], [case for case in cases if case.alert == name]) for name in _names(cases)]


def _names(cases: Sequence[Case]) -> list[str]:
    return list(dict.fromkeys(case.alert for case in cases))


def _write_tests(folder: Path, rule: Mapping[str, Any], cases: Sequence[Case]) -> str:
    rules_file = folder / f"{rule['alert']}.rules.yaml"
    tests_file = folder / f"{rule['alert']}.tests.yaml"
    documents = {
        rules_file: {"groups": [{"name": "alone", "rules": [rule]}]},
        tests_file: {
            "rule_files": [str(rules_file)],
            "evaluation_interval": "1m",
            "tests": [_group(case, rule) for case in cases],
        },
    }
    for path, document in documents.items():
        with path.open("w", encoding="utf-8") as stream:
            YAML(typ="safe").dump(document, stream)
    return str(tests_file)


def _group(case: Case, rule: Mapping[str, Any]) -> dict[str, Any]:
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    group: dict[str, Any] = {"interval": "1m", "input_series": series}
    fires = [{**rule["labels"], **labels} for labels in case.fires]
    at = f"{case.minutes}m"
    if case.summary is None:
        expr = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
        full = [{"alertname": case.alert, "alertstate": "firing", **labels} for labels in fires]
        samples = [{"labels": f"ALERTS{_written(each)}", "value": 1} for each in full]
        return {**group, "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}]}
    told = {"summary": case.summary, "runbook": rule["annotations"]["runbook"]}
    alerts = [{"exp_labels": labels, "exp_annotations": told} for labels in fires]
    return {**group, "alert_rule_test": [{"alertname": case.alert, "eval_time": at, "exp_alerts": alerts}]}


def _written(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
