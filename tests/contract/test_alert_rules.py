"""The shipped alert rules, in Prometheus' own hands: well formed, firing when they should, silent when not."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from router.alerts import RULES
from router.cli.alerts import app
from support.alert_cases import CASES, SUMMARIES
from support.promtool import promtool, rules, write_tests

ALERTS = rules(RULES)


def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules` finds nothing, not even two rules that are the same."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_the_command_prints_the_file() -> None:
    """Byte for byte, for Prometheus to read."""
    assert CliRunner().invoke(app, []).stdout == RULES.read_text(encoding="utf-8")


def test_every_alert_has_a_severity_a_summary_and_a_way_to_its_page() -> None:
    """Critical or warning, a time that it must last, one sentence, and the section of its own."""
    for name, rule in ALERTS.items():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


def test_every_alert_fires_when_it_should_and_is_silent_when_not(tmp_path: Path) -> None:
    """`promtool test rules` runs each against series of both kinds."""
    assert {case.alert for case in CASES if case.fires} == ALERTS.keys()
    assert {case.alert for case in CASES if not case.fires} == ALERTS.keys()
    done = promtool("test", "rules", *write_tests(tmp_path, ALERTS, CASES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_told_has_names_and_numbers(tmp_path: Path) -> None:
    """A summary names what is wrong, and how much, in units that people read."""
    done = promtool("test", "rules", *write_tests(tmp_path, ALERTS, SUMMARIES))
    assert done.returncode == 0, done.stdout + done.stderr
