"""What Prometheus and Grafana make of our metrics, as files beside this one: alert rules (`sluice.rules.yaml`), each
explained in `docs/alerts.md`, and a dashboard for Grafana (`sluice.grafana.json`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

RULES: Final = Path(__file__).with_name("sluice.rules.yaml")
GRAFANA: Final = Path(__file__).with_name("sluice.grafana.json")
