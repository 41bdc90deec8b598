"""How well answers' lengths are predicted, what that does to money in holds, and what a prediction takes.

    python benchmarks/bench_output_prediction.py

Trains as `sluice train` does on the first four fifths of each trace in benchmarks/data/output_lengths and tests on the
rest. Nothing in these traces says what a client asked for beside its prompt: `max_tokens`, schemas and tools, which a
ledger has, are not there to learn from.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final

from policies.predict.expect import OutputTokens, Prediction
from policies.predict.model import compile_model
from policies.predict.model_file import ModelFile
from policies.predict.question import QUANTILES
from results import Result, Target
from router.learning.examples import Sample, replayed
from router.learning.fit import fit_forest, table_of
from router.learning.judge import MAX_TOKENS, MODEL, RUNNING, Service
from router.learning.trace import ONE_CLASS, read_trace
from router.learning.train import train
from router.serving.expectation import OutputExpectation

DATA: Final = Path(__file__).resolve().parent / "data" / "output_lengths"
TRACES: Final = ("azure_conversation", "mooncake_synthetic", "llm_pilot", "servegen_resampled")
OUTPUT_BOUND: Final = 1024  # the policy's default, where no client says max_tokens
SERVICE: Final = Service()
TIMED: Final = 5_000


def main() -> None:
    traces = {name: read_trace(DATA / f"{name}.csv.gz", SERVICE) for name in TRACES}
    models = {name: train(trace, 0, OUTPUT_BOUND, SERVICE) for name, trace in traces.items()}
    taken_us = {name: asked_us(traces[name], trained.file) for name, trained in models.items()}
    columns = ("trace", "expected from", "pinball p50", "≤ p50", "pinball p90", "≤ p90", "USD in holds", "extensions")
    rows = [row for name, trained in models.items() for row in rows_of(name, trained.file)]
    against_running = max(ratio(trained.file, RUNNING) for trained in models.values())
    held = max(held_ratio(trained.file) for trained in models.values())
    slowest_us = max(statistics.median(taken) for taken in taken_us.values())
    p99_us = max(statistics.quantiles(taken, n=100)[98] for taken in taken_us.values())
    kept = ", ".join(name for name, trained in models.items() if trained.not_beaten is not None)
    about = (
        "Trained on the first 80% of each trace, tested on the rest: pinball loss in tokens an answer, answers at or "
        "below the prediction, money in holds on average "
        f"({SERVICE.first_token_s:g} s + {1000 * SERVICE.token_s:g} ms a token at ${SERVICE.usd_per_hour:g}/h) and "
        f"how often holds grew. `sluice train` would write no model for: {kept or 'none of them'}. "
        "`servegen_resampled` is resampled: prompts and answers were drawn independently. "
        f"A prediction with the model, history looked up: p99 {p99_us:.1f} µs; scikit-learn's own `predict` of one row "
        f"takes {statistics.median(scikit_us(traces[TRACES[0]])):,.0f} µs for the median alone."
    )
    targets = [
        Target("median of a prediction, µs", "below 50", f"{slowest_us:.1f}", slowest_us < 50),
        Target(
            "loss over that of running quantiles, worst trace",
            "below 1",
            f"{against_running:.3f}",
            against_running < 1,
        ),
        Target("money in holds over that by max_tokens, worst trace", "below 0.5", f"{held:.3f}", held < 0.5),
    ]
    print(Result("Output prediction", about, columns, rows, targets).as_json())


def rows_of(trace: str, model: ModelFile) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for held in model.held:
        median, p90 = (score for score in model.judged if score.predictor == held.predictor)
        scores = (f"{median.pinball:.2f}", f"{median.share:.1%}", f"{p90.pinball:.2f}", f"{p90.share:.1%}")
        rows.append((trace, held.predictor, *scores, f"{held.mean_usd:.5f}", f"{held.extensions:,}"))
    return rows


def ratio(model: ModelFile, baseline: str) -> float:
    """The model's loss over all quantiles, as a part of a baseline's."""
    mine, theirs = (
        sum(score.pinball for score in model.judged if score.predictor == name) for name in (MODEL, baseline)
    )
    return mine / theirs


def held_ratio(model: ModelFile) -> float:
    held = {row.predictor: row.mean_usd for row in model.held}
    return held[MODEL] / held[MAX_TOKENS]


def asked_us(trace: list[Sample], model: ModelFile) -> list[float]:
    """Microseconds of each call that a request makes before it is decided."""
    prediction = Prediction(OutputTokens.MODEL, compile_model(model))
    expectation = OutputExpectation()
    for each in trace[-2 * TIMED : -TIMED]:
        expectation.observe(each.question, each.tokens)
    taken = []
    for each in trace[-TIMED:]:
        began_ns = time.perf_counter_ns()
        expectation.outlook(prediction, each.question, OUTPUT_BOUND)
        taken.append((time.perf_counter_ns() - began_ns) / 1000)
        expectation.observe(each.question, each.tokens)
    return taken


def scikit_us(trace: list[Sample]) -> list[float]:
    """Microseconds of scikit-learn's `predict` on one row, with as many trees as a model may have."""
    examples = replayed(trace)
    table = table_of(examples, {ONE_CLASS: 0})
    regressor = fit_forest(examples, table, QUANTILES[0], seed=0)
    taken = []
    for place in range(100):
        began_ns = time.perf_counter_ns()
        regressor.predict(table[place : place + 1])
        taken.append((time.perf_counter_ns() - began_ns) / 1000)
    return taken


if __name__ == "__main__":
    main()
