"""What a page of metrics says, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def scraped(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Values by name and labels; empty labels, which are none, left out."""
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if value)): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def value(page: bytes, name: str, **labels: str) -> float | None:
    """One series' value; None where there is none."""
    return scraped(page).get((name, frozenset(labels.items())))
