"""What the router believes about its pools, step by step as requests and lists tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pools.failures.classes import FailureClass
from pools.live.all_pools import LivePools, LiveSettings
from pools.live.pool import SNAPSHOT_S
from pools.live.state import BreakerState
from pools.live.waiting_lines import Ticket
from pools.spec import KvCache
from pricing.clock import ScaledClock
from support.live_world import NEEDS, SETTINGS, Needs, World


def test_requests_in_flight_are_counted_with_their_tokens(world: World) -> None:
    """Entering and leaving keep the number and the predicted KV tokens; leaving twice counts once."""
    world.live.enter("p", "a", NEEDS)
    world.live.enter("p", "b", Needs(prompt_tokens=50))
    assert (world.live.state("p").in_flight, world.live.state("p").kv_tokens_in_flight) == (2, 1200 + 250)
    world.live.leave("p", "a")
    world.live.leave("p", "a")
    assert (world.live.state("p").in_flight, world.live.state("p").kv_tokens_in_flight) == (1, 250)


def test_idle_time_runs_from_the_last_end(world: World) -> None:
    """None for a pool that was never used or is busy."""
    assert world.live.state("p").idle_s is None
    world.live.enter("p", "a", NEEDS)
    world.clock.advance(5)
    assert world.live.state("p").idle_s is None
    world.live.leave("p", "a")
    world.clock.advance(7)
    assert world.live.state("p").idle_s == 7


def test_an_answer_proves_a_container_and_silence_ends_it(world: World) -> None:
    """Where no platform lists: ready with the first token, asleep a scale-down window after the last use."""
    world.live.enter("p", "a", NEEDS)
    world.live.answering("p", 2.0)
    world.live.leave("p", "a")
    world.live.answered("p")
    assert world.live.state("p").ready == 1
    world.clock.advance(59)
    assert world.live.state("p").ready == 1
    world.clock.advance(2)
    assert world.live.state("p").cold
    assert world.changes == [("p", 1, 0), ("p", 0, 0)]
    assert world.missed == [("p", "ready", -1_000_000)]


def test_a_busy_pool_never_falls_asleep(world: World) -> None:
    """The window runs only while nothing is in flight."""
    world.live.enter("p", "a", NEEDS)
    world.live.answering("p", 2.0)
    world.clock.advance(1000)
    assert world.live.state("p").ready == 1


def test_a_container_that_nobody_uses_falls_asleep_too(world: World) -> None:
    """A boot whose client has left: the window runs from the moment it was ready."""
    world.live.pool("p").waking()
    world.clock.advance(40)
    world.live.pool("p").seen_ready()
    world.clock.advance(59)
    assert (world.live.state("p").ready, world.live.state("p").idle_s) == (1, 59)
    world.clock.advance(1)
    assert world.live.state("p").cold


def test_a_cold_answer_began_a_boot(world: World) -> None:
    """The boot counts down by its model; one that outlasts it is expected to need a tenth more."""
    world.fail(FailureClass.COLD, status=503)
    assert (world.live.state("p").booting, world.live.state("p").boot_left_s) == (1, 40)
    world.clock.advance(30)
    assert world.live.state("p").boot_left_s == 10
    world.clock.advance(15)
    assert world.live.state("p").boot_left_s == 4
    assert world.live.state("p").breaker is BreakerState.CLOSED


def test_a_boot_that_never_ends_takes_the_pool_out_until_it_is_ready(world: World) -> None:
    """Longer than twice its model it counts as misconfigured; a container that comes up after all puts that right."""
    world.live.pool("p").waking()
    world.clock.advance(79)
    assert world.live.state("p").breaker is BreakerState.CLOSED
    world.clock.advance(2)
    state = world.live.state("p")
    assert (state.breaker, state.breaker_reason) == (
        BreakerState.OPEN,
        "a boot lasts longer than 2 × 40 s",
    )
    world.list(world.container())
    assert world.live.state("p").breaker is BreakerState.CLOSED


def test_a_reload_gives_a_boot_that_was_given_up_another_chance(world: World) -> None:
    """Where nobody lists containers, the old boot is forgotten with the reload."""
    world.live.pool("p").waking()
    world.clock.advance(81)
    assert world.live.state("p").breaker is BreakerState.OPEN
    world.live.configure({"p": SETTINGS})
    assert (world.live.state("p").breaker, world.live.state("p").alive) == (BreakerState.CLOSED, 0)


def test_the_platforms_list_is_the_truth(world: World) -> None:
    """Counts come from the list; a pool that it does not name has none; a plain server is not the platform's."""
    world.live.configure({"p": SETTINGS, "q": SETTINGS, "plain": LiveSettings(40, 60, always_on=2)})
    world.live.pool("q").waking()
    world.list(world.container("booting"))
    states = world.live.states()
    assert [(state.ready, state.booting) for state in states.values()] == [(0, 1), (0, 0), (2, 0)]


def test_a_bare_503_from_a_pool_believed_awake_puts_it_to_sleep(world: World) -> None:
    """Its container is gone; where a platform lists, the list decides."""
    world.live.answering("p", 1.0)
    world.fail(FailureClass.UNAVAILABLE, status=503)
    assert world.live.state("p").cold
    world.list(world.container())
    world.fail(FailureClass.UNAVAILABLE, status=503)
    assert world.live.state("p").ready == 1


def test_first_token_times_are_averaged(world: World) -> None:
    """The newest counts a fifth."""
    world.live.answering("p", 1.0)
    world.live.answering("p", 2.0)
    assert world.live.state("p").ttft_s == pytest.approx(1.2)


def test_snapshots_are_made_again_only_when_something_happened_or_time_passed(world: World) -> None:
    """The same object is handed out until then, and what was handed out does not change."""
    first = world.live.states()
    assert world.live.states() is first
    world.live.enter("p", "a", NEEDS)
    second = world.live.states()
    assert (first["p"].in_flight, second["p"].in_flight) == (0, 1)
    world.clock.advance(SNAPSHOT_S)
    assert world.live.states() is not second
    assert world.live.states()["p"].as_of_us == world.clock.wall_us()


def test_reload_keeps_what_is_known_and_lets_removed_pools_serve_out(world: World) -> None:
    """Requests that began under the old files can still enter and leave a pool that went; new ones cannot choose it."""
    world.live.configure({"p": SETTINGS, "old": SETTINGS})
    world.live.enter("old", "a", NEEDS)
    world.live.answering("p", 1.0)
    world.live.configure({"p": LiveSettings(40, 60, drained=True)})
    assert (world.live.state("p").ready, world.live.state("p").drained) == (1, True)
    world.live.leave("old", "a")
    world.live.enter("old", "b", NEEDS)
    assert (world.live.state("old").deployed, world.live.state("old").in_flight) == (False, 1)


def test_a_minimum_of_containers_is_there_only_where_it_is_deployed(world: World) -> None:
    """The platform keeps them up, also through silence; a pool without an endpoint has none."""
    kept = LiveSettings(40, 60, min_containers=1)
    world.live.configure({"p": kept, "off": LiveSettings(40, 60, min_containers=1, deployed=False)})
    world.live.enter("p", "a", NEEDS)
    world.live.leave("p", "a")
    world.clock.advance(1000)
    assert [state.ready for state in world.live.states().values()] == [1, 0]


@pytest.mark.parametrize("event", ["leave", "list"])
async def test_the_first_in_line_is_woken(event: str) -> None:
    """By a request that leaves, or by a new list of containers; those behind it are not."""
    world = World()
    world.live.enter("p", "a", NEEDS)
    assert world.live.in_flight(["p", "unknown"]) == 1
    first, second = Ticket(), Ticket()
    waiting = [asyncio.create_task(world.live.wait_for_room(each, ["p"], 60)) for each in (first, second)]
    await asyncio.sleep(0)
    wake: dict[str, Callable[[], None]] = {"leave": lambda: world.live.leave("p", "a"), "list": world.list}
    wake[event]()
    await waiting[0]
    assert (world.live.lines.ahead_of(first), world.live.lines.ahead_of(second)) == ({}, {"p": 1})
    assert not waiting[1].done()
    world.live.lines.leave(first)
    await waiting[1]


async def test_who_waits_for_room_looks_again_in_any_case() -> None:
    """Nobody leaves: a breaker or a cooldown may have ended all the same, so waits end, soon for the first in line."""
    live = LivePools(ScaledClock(1000), on_change=lambda *_: None, on_missed=lambda *_: None)
    looks: list[str] = []

    async def waits(name: str) -> None:
        await live.wait_for_room(Ticket(), ["p"], 5_000)
        looks.append(name)

    await asyncio.gather(waits("first"), waits("behind"))
    assert looks == ["first", "behind"]


def test_a_contiguous_cache_lowers_its_ceiling_and_closes_no_shape(world: World) -> None:
    """Of a batch that ran out of memory all requests say so, and it was none of their sizes."""
    world.live.configure({"p": LiveSettings(40, 60, kv_cache=KvCache.CONTIGUOUS)})
    for name in "abc":
        world.live.enter("p", name, NEEDS)
    world.clock.advance(1)
    for name in "abc":
        world.live.leave("p", name)
        world.fail(FailureClass.OUT_OF_MEMORY)
    state = world.live.state("p")
    assert (state.kv_ceiling, state.shapes_open) == (round(0.9 * 3 * 1200), frozenset())
