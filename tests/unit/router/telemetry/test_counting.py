"""Counters and histograms of our own write what Prometheus' own client writes for the same numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from router.telemetry.counting import Counts, Spreads
from support.scrape import scraped

LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
AMOUNTS = st.lists(st.tuples(LABELS, st.integers(0, 10**15)), max_size=20)
BOUNDS = (0.01, 0.1, 1.0, 2.5, 10.0)


@given(AMOUNTS)
def test_counts_read_as_the_library_s_own(added: list[tuple[str, int]]) -> None:
    """Whatever a label says, and however large sums grow, a scrape reads the same names, labels and values."""
    registry = CollectorRegistry()
    theirs = Counter("a_usd", "Dollars.", ["pool"], registry=registry)
    ours = Counts("a_usd_total", "Dollars.", ["pool"], per=10**9)
    for label, amount in added:
        ours.add((label,), amount)
        theirs.labels(label).inc(amount)
    expected = {key: value for key, value in scraped(generate_latest(registry)).items() if key[0] == "a_usd_total"}
    assert scraped("".join(ours.lines()).encode()) == {key: value / 10**9 for key, value in expected.items()}


@given(AMOUNTS)
def test_histograms_read_as_the_library_s_own(observed: list[tuple[str, int]]) -> None:
    """Buckets, counts and sums, an amount on a bound belonging below it."""
    registry = CollectorRegistry()
    theirs = Histogram("a_seconds", "Time.", ["pool"], buckets=BOUNDS, registry=registry)
    ours = Spreads("a_seconds", "Time.", ["pool"], BOUNDS, per=1000)
    for label, milliseconds in [*observed, *(("on", round(bound * 1000)) for bound in BOUNDS)]:
        ours.of(label).observe(milliseconds)
        theirs.labels(label).observe(milliseconds / 1000)
    expected, found = scraped(generate_latest(registry)), scraped("".join(ours.lines()).encode())
    kept = {key: value for key, value in expected.items() if not key[0].endswith(("_created", "_sum"))}
    assert {key: value for key, value in found.items() if not key[0].endswith("_sum")} == kept
    for key in (key for key in found if key[0].endswith("_sum")):
        assert abs(found[key] - expected[key]) <= 1e-9 * max(1.0, expected[key])


def test_sums_stay_exact_where_floats_would_drift() -> None:
    """A million charges of a nano-dollar each, on top of a million dollars, are a thousandth of a dollar."""
    counts = Counts("a_usd_total", "Dollars.", ["pool"], per=10**9)
    counts.add(("l4",), 10**15)
    for _ in range(1_000):
        counts.add(("l4",), 1_000)
    assert list(counts.lines())[-1] == 'a_usd_total{pool="l4"} 1000000.001\n'


def test_a_metric_that_never_counted_says_that_it_is_there() -> None:
    """Name, text and type without a value; a set of labels that nothing was observed of is left out."""
    spreads = Spreads("a_seconds", "Time.", ["pool"], BOUNDS)
    spreads.of("l4")
    assert list(spreads.lines()) == ["# HELP a_seconds Time.\n", "# TYPE a_seconds histogram\n"]
