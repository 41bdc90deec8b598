"""The scene of a torture run: its size, its tenants as skewed as real ones, and the policy they live under."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

RATES: Final = Path(__file__).resolve().parents[2] / "data" / "servegen_tenants" / "rates.csv"
TICK_S: Final = 0.25
LEASE_S: Final = 3.0
NUSD_PER_REQUEST: Final = 60_000
"""What one of these answers costs, about; caps alone are made from it."""

AT_LEAST_NUSD: Final = 3_000_000
"""Room for the hold of one request that has a container to itself."""

BITING: Final = 6  # of the busiest tenants, so many have a cap below what they ask for


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done to how many. `kills` are of replicas, `outages` of Redis, `cuts` of a replica's connection.

    A client waits up to `pause_s` between two requests, so that there is time between two mishaps.
    """

    requests: int
    clients: int
    pause_s: float
    replicas: int
    kills: int
    outages: int
    cuts: int
    lasts_at_most_s: float


SMALL: Final = Size(requests=700, clients=24, pause_s=0.4, replicas=4, kills=3, outages=2, cuts=6, lasts_at_most_s=120)
FULL: Final = Size(
    requests=10_000, clients=100, pause_s=2.5, replicas=4, kills=20, outages=8, cuts=60, lasts_at_most_s=900
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """`share` is its part of all requests; its cap is nano-dollars a day."""

    name: str
    key: str
    share: float
    cap_nusd: int


def tenants(size: Size) -> list[Tenant]:
    """A hundred tenants, busiest first: caps of the busiest are half of what they will ask for, of others thrice."""
    with RATES.open(encoding="utf-8") as file:
        rates = {f"t{row['client']}": float(row["mean_rps"]) for row in csv.DictReader(file)}
    total = sum(rates.values())
    made = []
    for rank, (name, rate) in enumerate(rates.items()):
        share = rate / total
        wanted_nusd = round(share * size.requests) * NUSD_PER_REQUEST
        cap_nusd = wanted_nusd // 2 if rank < BITING else 3 * wanted_nusd + AT_LEAST_NUSD
        made.append(Tenant(name, f"sk-torture-{name}", share, cap_nusd))
    return made


def write_policy(folder: Path, cast: list[Tenant], pools_url: str) -> None:
    """Two small pools that are always awake, and every tenant with its cap."""
    (folder / "policy.yaml").write_text(json.dumps(_policy(cast, pools_url)), encoding="utf-8")


def _policy(cast: list[Tenant], pools_url: str) -> Mapping[str, Any]:
    base: dict[str, Any] = {"max_model_len": 4096, "boot_s": 1, "min_containers": 2, "max_containers": 4}
    pools = {"small": {"extends": "qwen3-4b-bf16-a10", **base}, "mid": {"extends": "qwen3-vl-8b-fp8-l4", **base}}
    return {
        "version": 1,
        "price_book": "modal-2026-10",
        "defaults": {"hold_tick_s": TICK_S, "hold_lease_s": LEASE_S, "reload_poll_s": 2},
        "classes": {"chat": {"ladder": {"economy": ["small"], "premium": ["mid"]}}},
        "pools": pools,
        "tenants": {one.name: _tenant(one) for one in cast},
        "platform": {"url": pools_url},
        "endpoints": {name: {"url": f"{pools_url}/pools/{name}"} for name in pools},
    }


def _tenant(one: Tenant) -> Mapping[str, Any]:
    key = {"id": f"{one.name}-key", "sha256": hashlib.sha256(one.key.encode()).hexdigest()}
    cap = {"name": "day", "amount_usd": f"{one.cap_nusd / 1e9:.9f}", "window": "24h"}
    return {"keys": [key], "caps": [cap]}
