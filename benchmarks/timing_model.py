"""How far the service-time model is from published measurements.

    python benchmarks/timing_model.py [FILE …]

Reads the excerpts in tests/data/timing_measured, or the FILEs that `sluice measure --row` wrote, and prints, for each
source, the median and the 90th percentile of |model / measured - 1|, and the median of its sign. Cases whose requests
do not fit into the KV cache together are left out: there the measured server queues, which is the router's business
and not the model's.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from pools.catalog.load import load_catalog
from pools.fit.memory import fit
from pools.fit.timing import ServiceTime, timing_model
from pools.spec import ModelKind, ModelSpec, PoolSpec

DATA: Final = Path(__file__).resolve().parents[1] / "tests" / "data" / "timing_measured"


class Case(NamedTuple):
    """One measured figure and the model's, in seconds."""

    what: str
    measured_s: float
    modelled_s: float

    @property
    def error(self) -> float:
        return self.modelled_s / self.measured_s - 1


def _dense(
    name: str, params_b: float, form: str, gib: float, shape: tuple[int, int, int, int], not_read_gib: float
) -> ModelSpec:
    layers, hidden, q_heads, kv_heads = shape
    return ModelSpec(
        id=name,
        repo="",
        kind=ModelKind.TEXT,
        params_b=params_b,
        active_params_b=params_b,
        weights_gib={form: gib},
        tokenizer=name,
        native_context=131072,
        layers=layers,
        attention_layers=layers,
        hidden=hidden,
        q_heads=q_heads,
        kv_heads=kv_heads,
        head_dim=128,
        not_read_gib=not_read_gib,
    )


# The measured models, from their config.json; sizes are arithmetic over the parameters.
_MINIMAX = _dense("minimax-m2.5", 228.7, "fp8", 214.0, (62, 3072, 48, 8), 1.14)
MODELS: Final = {
    model.id: model
    for model in (
        _dense("llama-7b", 6.74, "fp16", 12.55, (32, 4096, 32, 32), 0.25),
        _dense("llama-13b", 13.02, "fp16", 24.24, (40, 5120, 40, 40), 0.31),
        _dense("llama2-70b", 68.98, "fp16", 128.5, (80, 8192, 64, 8), 0.49),
        _dense("llama-3.1-70b", 70.55, "fp8", 67.7, (80, 8192, 64, 8), 1.96),
        _dense("qwen3-32b", 32.76, "bf16", 61.0, (64, 5120, 64, 8), 1.45),
        replace(
            _MINIMAX, active_params_b=10.2, experts=256, experts_active=8, expert_intermediate=1536, expert_layers=62
        ),
    )
}


def compare() -> list[Case]:
    """Every measured case beside the model's figure."""
    return [*_inferencemax(), *_llm_pilot(), *_splitwise()]


def _pool(row: dict[str, str], form: str) -> PoolSpec:
    catalog = load_catalog()
    count = int(row["gpus"])
    return replace(
        catalog.pools["qwen3-4b-bf16-a10"],
        model=MODELS.get(row["model"]) or catalog.models[row["model"]],
        quantization=form,
        gpu=catalog.gpus[row["gpu"]],
        gpu_count=count,
        tensor_parallel=count,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _both(what: str, time: ServiceTime, ttft_s: float, token_s: float, output_tokens: float) -> Iterator[Case]:
    yield Case(f"{what}: whole answer", ttft_s + output_tokens * token_s, time.total_s)
    yield Case(f"{what}: first token", ttft_s, time.ttft_s)


def _inferencemax() -> Iterator[Case]:
    for row in _rows(DATA / "inferencemax.csv"):
        pool = _pool(row, row["format"])
        prompt, output, requests = int(row["prompt_tokens"]), int(row["output_tokens"]), int(row["requests"])
        if requests * (prompt + output) > fit(pool, {}).kv_tokens:
            continue
        kind = "experts" if pool.model.experts else "dense"
        time = timing_model(pool).estimate(prompt, output, requests - 1)
        yield from _both(
            f"InferenceMAX, {kind}", time, float(row["ttft_ms"]) / 1e3, float(row["tpot_ms"]) / 1e3, output
        )


def _llm_pilot() -> Iterator[Case]:
    for row in _rows(DATA / "llm_pilot.csv"):
        prompt, output = round(float(row["prompt_tokens"])), round(float(row["output_tokens"]))
        time = timing_model(_pool(row, "fp16")).estimate(prompt, output, int(row["users"]) - 1)
        yield from _both("LLM-Pilot", time, float(row["ttft_p50_ms"]) / 1e3, float(row["itl_p50_ms"]) / 1e3, output)


def _splitwise() -> Iterator[Case]:
    for row in _rows(DATA / "splitwise.csv"):
        time = timing_model(_pool(row, "fp16")).estimate(int(row["prompt_tokens"]), 0, 0)
        yield Case("Splitwise: first token", float(row["prompt_ms"]) / 1e3, time.ttft_s)


def measured(path: Path) -> Iterator[Case]:
    """Rows of `sluice measure --row`, each pool a source of its own. Models are those of the shipped catalogue."""
    for row in _rows(path):
        output = int(row["output_tokens"])
        time = timing_model(_pool(row, row["format"])).estimate(
            int(row["prompt_tokens"]), output, int(row["requests"]) - 1
        )
        token_s = float(row["tpot_ms"]) / 1e3
        yield from _both(f"{row['pool']}, {row['machine']}", time, float(row["ttft_ms"]) / 1e3, token_s, output - 1)


def table(cases: list[Case]) -> str:
    """One line for each source and figure."""
    lines = ["| measured | cases | median error | 90th percentile | bias |", "|---|---|---|---|---|"]
    for what in dict.fromkeys(case.what for case in cases):
        errors = [case.error for case in cases if case.what == what]
        sizes = sorted(abs(error) for error in errors)
        lines.append(
            f"| {what} | {len(errors)} | {statistics.median(sizes):.0%} | {sizes[int(0.9 * len(sizes))]:.0%} "
            f"| {statistics.median(errors):+.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]]
    print(table([case for path in files for case in measured(path)] if files else compare()))
