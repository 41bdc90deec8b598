"""Alert rules for Prometheus, as a file beside this one: `sluice.rules.yaml`, explained in `docs/alerts.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RULES: Final = Path(__file__).with_name("sluice.rules.yaml")
