"""The command line, called as people call it, and the file of tenants that its tests look at and change."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from router.cli.main import app

TENANTS = """\
version: 1
# Who may ask.
tenants:
    acme: # the first customer
        keys:
            - id: acme-1
              sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        caps:
            - name: day
              amount_usd: 5 # dollars; ask Kim before changing
              window: 24h
              thresholds: {warn: 80%, lower_tier: 90%}
            - {name: month, amount_usd: unlimited, window: 1mo}
caps:
    - name: day
      scope: pool:qwen3-vl-8b-fp8-l4
      amount_usd: "12.50"
      window: 7d
"""


def sluice(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def said(result: Result) -> str:
    """What people read, without the frame and line breaks that a terminal's width puts in."""
    return " ".join(result.output.replace("│", " ").split())
