"""LLM-Pilot's measured pools (tests/data/llm_pilot) as simulated engines, with the two figures that were fitted.

Speeds are read off the measurements: a prefill from the first-token times of one user alone (Theil-Sen, since single
requests stall), a step from the median time between tokens at 1 to 16 users (least squares). What a GPU holds and what
the scheduler admits was fitted, one pair of figures a pool for all its numbers of users: `oom_admission.py --fit`.
"""

from __future__ import annotations

import csv
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple

from batch_engine import EngineProfile

DATA: Final = Path(__file__).resolve().parents[1] / "tests" / "data" / "llm_pilot"
MEASURED_S: Final = 120.0
NEVER_FAILED: Final = 10**9


class Pool(NamedTuple):
    """One measured deployment."""

    model: str
    gpu: str
    gpus: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.gpus}x{self.gpu.lower()}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tokens that the GPUs hold and that the scheduler admits at once."""

    holds_tokens: int
    admits_tokens: int
    dies: bool = False


FITTED: Final = {
    Pool("llama-7b", "A10", 1): Fitted(4_800, 6_200),
    Pool("llama-7b", "A100-40GB", 1): Fitted(18_000, 25_200),
    Pool("llama-7b", "H100", 1): Fitted(19_000, 21_800),
    Pool("llama-7b", "T4", 2): Fitted(15_400, 17_700, dies=True),
    Pool("gpt-neox-20b", "H100", 1): Fitted(12_100, 14_500),
    Pool("gpt-neox-20b", "A100-40GB", 2): Fitted(11_900, 14_900),
    Pool("starcoder", "A100-40GB", 1): Fitted(13_600, 15_600),
}
LARGER: Final = {
    "llama-7b": Pool("llama-7b", "A100-40GB", 2),
    "gpt-neox-20b": Pool("gpt-neox-20b", "H100", 2),
    "starcoder": Pool("starcoder", "H100", 1),
}
"""By model, a pool that was measured too and never ran out of memory."""


class Case(NamedTuple):
    """One measurement: a pool under a number of users. Requests in 120 s."""

    pool: Pool
    users: int
    answered: int
    out_of_memory: int
    batch_lost: int
    other: int

    @property
    def failed_share(self) -> float:
        """Of the requests; those that failed for other reasons count where the server had died of it."""
        failed = self.out_of_memory + self.batch_lost + (self.other if self.batch_lost else 0)
        return failed / (self.answered + failed)


def cases() -> list[Case]:
    return [
        Case(_pool(row), *(int(row[key]) for key in ("users", "answered", "out_of_memory", "batch_lost", "other")))
        for row in _rows("cases.csv")
    ]


def engine_profile(pool: Pool, fitted: Fitted | None = None) -> EngineProfile:
    """The simulated engine of a pool; one that never failed holds everything."""
    prefill_s, prefill_token_s = _prefill(pool)
    step_s, step_sequence_s = _step(pool)
    memory = fitted or FITTED.get(pool) or Fitted(NEVER_FAILED, NEVER_FAILED)
    return EngineProfile(
        prefill_s, prefill_token_s, step_s, step_sequence_s, memory.holds_tokens, memory.admits_tokens, memory.dies
    )


def requests(seed: int) -> Iterator[tuple[int, int]]:
    """Prompt and output tokens, drawn from the measured ones for ever."""
    kinds, weights = _lengths()
    rng = random.Random(seed)
    while True:
        yield from rng.choices(kinds, weights, k=64)


@cache
def _lengths() -> tuple[list[tuple[int, int]], list[int]]:
    rows = _rows("lengths.csv")
    kinds = [(int(row["prompt_tokens"]), int(row["output_tokens"])) for row in rows]
    return kinds, [int(row["requests"]) for row in rows]


@cache
def _prefill(pool: Pool) -> tuple[float, float]:
    """Theil-Sen: the median slope between two points, and the median of what it leaves."""
    points = [
        (int(row["prompt_tokens"]), int(row["ttft_ms"]) / 1e3)
        for row in _rows("first_tokens.csv")
        if _pool(row) == pool
    ]
    slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0])
    return statistics.median(seconds - slope * tokens for tokens, seconds in points), slope


@cache
def _step(pool: Pool) -> tuple[float, float]:
    rows = [row for row in _rows("token_times.csv") if _pool(row) == pool]
    fit = statistics.linear_regression(
        [int(row["users"]) for row in rows], [float(row["itl_p50_ms"]) / 1e3 for row in rows]
    )
    return fit.intercept, fit.slope


def _pool(row: dict[str, str]) -> Pool:
    return Pool(row["model"], row["gpu"], int(row["gpus"]))


@cache
def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
