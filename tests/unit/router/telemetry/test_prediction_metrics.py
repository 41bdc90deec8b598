"""Metrics that show when expectations are off, and which model they are drawn from."""

from __future__ import annotations

from policies.predict.expect import Ground
from policies.predict.model import compile_model
from router.telemetry.events import RequestEnded
from router.telemetry.metrics import MetricsSink
from support.models import small_model
from support.scrape import value


def ended(tokens: int | None, outcome: str = "served") -> RequestEnded:
    return RequestEnded(
        request_id="r",
        tenant="t",
        key_id="k",
        endpoint="e",
        request_class="chat",
        tier="standard",
        pool="l4",
        outcome=outcome,
        status=200,
        error_code=None,
        attempts=1,
        stream=False,
        duration_us=1,
        ttft_us=None,
        charge_nusd=0,
        prompt_tokens=1,
        completion_tokens=tokens,
        expected_tokens=100,
        p90_tokens=300,
        expected_from=Ground.MODEL,
    )


def test_answers_are_counted_beside_their_expectations() -> None:
    """Below, between and above; answers that were not complete say nothing."""
    sink = MetricsSink(dict)
    for tokens, outcome in ((100, "served"), (101, "served"), (301, "served"), (7, "broken"), (None, "served")):
        sink.emit(ended(tokens, outcome))

    def count(level: str, result: str) -> float | None:
        labels = {"class": "chat", "ground": "model", "level": level, "result": result}
        return value(sink.text(), "sluice_output_predictions_total", **labels)

    assert (count("0.5", "not_above"), count("0.5", "above")) == (1, 2)
    assert (count("0.9", "not_above"), count("0.9", "above")) == (2, 1)


def test_the_age_of_the_model_in_force_can_be_read() -> None:
    """A new model takes the place of the old one; without one there is no such metric."""
    sink = MetricsSink(dict)
    name = "sluice_output_model_trained_timestamp_seconds"
    first, second = compile_model(small_model()), compile_model(small_model(1_800_000_000_000_000))
    sink.model_in_force(first)
    assert sink.registry.get_sample_value(name, {"version": first.version}) == 1_767_225_600
    sink.model_in_force(second)
    assert sink.registry.get_sample_value(name, {"version": first.version}) is None
    assert sink.registry.get_sample_value(name, {"version": second.version}) == 1_800_000_000
    sink.model_in_force(None)
    assert name + "{" not in sink.text().decode()
