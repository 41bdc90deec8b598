"""Keys that live for one run, and the policy files that know their hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from pricing.money import NUSD_PER_USD, ceil_nusd, to_usd
from router.demo.plan import PROFILES, TRIAL, PlannedRequest

POLICY: Final = "policy.yaml"
TENANTS: Final = "tenants.yaml"
OTHERS: Final = "tenants-of-the-trace.yaml"

NUSD_PER_OUTPUT_TOKEN: Final = 2_000
"""What an answer's token costs in the demo, about: $2 a million. Only the trial's budget is made from it."""

TRIAL_PERCENT: Final = 40
"""Of what the trial tenant is going to ask for, its budget covers this much."""

HUNDREDTH_CENT_NUSD: Final = NUSD_PER_USD // 10_000


TRIAL_AT_LEAST_NUSD: Final = 6_000_000
"""$0.006: room for two answers that have a container to themselves, however short the run is."""


def new_keys(plan: Iterable[PlannedRequest] = ()) -> dict[str, str]:
    """A key for each tenant, with those that only a trace names. They live in the memory of this process alone."""
    names = dict.fromkeys([*(profile.name for profile in PROFILES), *(planned.tenant for planned in plan)])
    return {name: f"sk-demo-{secrets.token_urlsafe(24)}" for name in names}


def trial_budget_nusd(plan: Iterable[PlannedRequest]) -> int:
    """A budget that runs out midway, rounded up to a hundredth of a cent."""
    tokens = sum(planned.output_tokens for planned in plan if planned.tenant == TRIAL)
    wanted = max(TRIAL_AT_LEAST_NUSD, tokens * NUSD_PER_OUTPUT_TOKEN * TRIAL_PERCENT // 100)
    return ceil_nusd(wanted, HUNDREDTH_CENT_NUSD) * HUNDREDTH_CENT_NUSD


def write_policy(folder: Path, keys: Mapping[str, str], trial_nusd: int) -> None:
    """The set's files, but for the one that points at the simulated pools. Tenants of a trace alone have no caps."""
    shipped = resources.files("router.demo") / "policy"
    hashed = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    hashes = {profile.name.replace("-", "_"): hashed.pop(profile.name) for profile in PROFILES}
    tenants = Template((shipped / TENANTS).read_text(encoding="utf-8"))
    folder.mkdir()
    (folder / POLICY).write_text((shipped / POLICY).read_text(encoding="utf-8"), encoding="utf-8")
    filled = tenants.substitute(hashes, trial_usd=to_usd(trial_nusd))
    (folder / TENANTS).write_text(filled, encoding="utf-8")
    if hashed:
        others = {name: {"keys": [{"id": f"{name}-trace", "sha256": digest}]} for name, digest in hashed.items()}
        (folder / OTHERS).write_text(json.dumps({"version": 1, "tenants": others}, indent=2), encoding="utf-8")
