"""The cost of one pool that serves requests alone, against closed forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.catalog.load import load_catalog
from pools.fit.alone import Arrival, ContainerTime, serve_alone
from pools.fit.timing import TimingModel
from pricing.clock import US_PER_S
from support.values import replace

BOOT_S, WINDOW_S, ITEM_S = 40, 60, 4
POOL = replace(
    load_catalog().pools["qwen3-4b-bf16-a10"],
    target_concurrency=2,
    max_concurrency=4,
    max_containers=3,
    scaledown_window_s=float(WINDOW_S),
)
# A model with a round service time: four seconds for each request in the container.
TIMING = TimingModel((), (), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, item_s=float(ITEM_S))


def served_at(*seconds: float) -> ContainerTime:
    return serve_alone(POOL, TIMING, BOOT_S, [Arrival(round(at * US_PER_S), 10, 10) for at in seconds])


def in_seconds(time: ContainerTime) -> tuple[float, float, float, int]:
    return time.boot_us / US_PER_S, time.busy_us / US_PER_S, time.idle_us / US_PER_S, time.containers


def test_nothing_served_costs_nothing() -> None:
    """Without requests no container is started."""
    assert in_seconds(served_at()) == (0, 0, 0, 0)


def test_one_request_costs_a_boot_its_service_and_the_window() -> None:
    """40 + 4 + 60 = 104 container seconds, as in the design's example."""
    time = served_at(0)
    assert in_seconds(time) == (BOOT_S, ITEM_S, WINDOW_S, 1)
    assert time.alive_us == 104 * US_PER_S


@pytest.mark.parametrize(
    ("gap_s", "expected"),
    [
        (60, (BOOT_S, 2 * ITEM_S, (60 - ITEM_S - BOOT_S) + WINDOW_S, 1)),  # 16 s idle between them
        (103, (BOOT_S, 2 * ITEM_S, (103 - ITEM_S - BOOT_S) + WINDOW_S, 1)),  # within the window by a second
        (105, (2 * BOOT_S, 2 * ITEM_S, 2 * WINDOW_S, 2)),  # too late by a second: all of it again
    ],
)
def test_a_second_request_finds_the_container_if_the_window_is_not_over(
    gap_s: float, expected: tuple[float, float, float, int]
) -> None:
    """A container answers at 40 s, is idle from 44 s on and stops at 104 s."""
    assert in_seconds(served_at(0, gap_s)) == expected


def test_requests_wait_for_one_boot_and_share_the_container() -> None:
    """Two that come while it boots start together: the second takes twice as long beside the first."""
    assert in_seconds(served_at(0, 10)) == (BOOT_S, 2 * ITEM_S, WINDOW_S, 1)


def test_more_than_the_target_starts_more_containers() -> None:
    """Three at once are above a target of two: a second container boots, and is idle from its start to its end."""
    boot_s, busy_s, idle_s, containers = in_seconds(served_at(0, 0, 0))
    assert (boot_s, containers) == (2 * BOOT_S, 2)
    assert busy_s == 3 * ITEM_S
    assert idle_s == 2 * WINDOW_S


def test_containers_end_at_the_pools_limit() -> None:
    """However many come at once, no more than `max_containers` are started."""
    assert served_at(*[0.0] * 50).containers == POOL.max_containers


@given(st.lists(st.integers(0, 400), min_size=1, max_size=30))
def test_every_container_lives_through_a_boot_and_a_last_window(seconds: list[int]) -> None:
    """Whatever comes when: each container boots once and idles at least its window; busy time serves every request."""
    time = served_at(*seconds)
    assert time.boot_us == time.containers * BOOT_S * US_PER_S
    assert time.idle_us >= time.containers * WINDOW_S * US_PER_S
    assert time.busy_us >= ITEM_S * US_PER_S
    assert time.busy_us <= sum(ITEM_S * POOL.max_concurrency for _ in seconds) * US_PER_S


@given(st.lists(st.integers(0, 400), min_size=1, max_size=12), st.integers(0, 1000))
def test_when_it_all_happens_does_not_matter(seconds: list[int], later: int) -> None:
    """The same requests an hour later cost the same."""
    assert served_at(*seconds) == served_at(*(at + later for at in seconds))
