"""Settings that every test shares: how long Hypothesis searches, and where the repository is.

Two Hypothesis profiles: `dev` (default) looks for new counterexamples on each run; `ci`, chosen when the environment
has `CI=true`, repeats the same examples every time, so that a red run is red for a reason in the change.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A slow, shared machine must not fail a property: time is no part of any claim.
_SLOW_IS_FINE = [HealthCheck.too_slow]
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_IS_FINE)
settings.register_profile("ci", deadline=None, suppress_health_check=_SLOW_IS_FINE, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent
