"""What failed attempts make the router believe of a pool: breakers, pauses, features and shapes."""

from __future__ import annotations

import pytest

from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.breaker import MISCONFIGURED_PROBE_S
from pools.live.state import BreakerState, shape_bucket
from support.live_world import LIMITS, NEEDS, SETTINGS, Needs, World


def test_five_failures_open_the_breaker_and_one_probe_tries(world: World) -> None:
    """After 15 s the request that enters first is the probe; all others see an open breaker until it ends well."""
    world.fail(FailureClass.UNAVAILABLE, times=5)
    assert world.live.state("p").breaker is BreakerState.OPEN
    world.clock.advance(15)
    assert world.live.state("p").breaker is BreakerState.HALF_OPEN
    world.live.enter("p", "probe", NEEDS)
    assert world.live.state("p").breaker is BreakerState.OPEN
    world.live.enter("p", "other", NEEDS)
    world.live.leave("p", "other")
    assert world.live.state("p").breaker is BreakerState.OPEN
    world.live.leave("p", "probe")
    world.live.answered("p")
    assert world.live.state("p").breaker is BreakerState.CLOSED


def test_a_probe_whose_client_left_makes_room_for_another(world: World) -> None:
    """Even one that entered and was never dispatched."""
    world.fail(FailureClass.TIMEOUT, times=5)
    world.clock.advance(15)
    world.live.enter("p", "probe", NEEDS)
    world.live.leave("p", "probe")
    assert world.live.state("p").breaker is BreakerState.HALF_OPEN


def test_a_clients_own_deadline_never_opens_a_breaker(world: World) -> None:
    """However often it passes."""
    world.fail(FailureClass.TIMEOUT, times=50, by_client_deadline=True)
    assert world.live.state("p").breaker is BreakerState.CLOSED


@pytest.mark.parametrize(
    "failure",
    [
        FailureClass.CONTEXT_OVERFLOW,
        FailureClass.BAD_OUTPUT,
        FailureClass.CLIENT_ERROR,
        FailureClass.CLIENT_GONE,
        FailureClass.COLD,
    ],
)
def test_failures_that_say_nothing_against_the_pool_leave_its_breaker(failure: FailureClass, world: World) -> None:
    """The rows of the failure table with "no" in the breaker's column."""
    world.fail(failure, times=50)
    state = world.live.state("p")
    assert (state.breaker, state.shapes_open, state.features_off) == (BreakerState.CLOSED, frozenset(), frozenset())


def test_a_pool_that_refuses_the_request_itself_is_awake(world: World) -> None:
    """A 400 comes from a container."""
    world.fail(FailureClass.CLIENT_ERROR, status=400)
    assert world.live.state("p").ready == 1


def test_overload_pauses_as_long_as_the_pool_asks(world: World) -> None:
    """Retry-After is respected."""
    world.fail(FailureClass.OVERLOADED, retry_after_s=7.0)
    state = world.live.state("p")
    assert (state.breaker, state.breaker_reason, state.breaker_retry_s) == (BreakerState.OPEN, "overloaded", 7.0)


def test_a_pool_may_be_asleep_once_nothing_was_heard_of_it_for_its_window(world: World) -> None:
    """The list comes later than the platform ends containers. A burst that meets nobody starts one boot, whatever the
    list said; as long as something answers, or had answered within the window, a container is there.
    """
    pool = world.live.pool("p")
    world.list(world.container())
    world.clock.advance(SETTINGS.scaledown_window_s)
    assert not pool.perhaps_asleep
    for member in ("a", "b"):
        world.live.enter("p", member, NEEDS)
        assert pool.perhaps_asleep
    world.live.answering("p", 0.1)
    assert not pool.perhaps_asleep
    for member in ("a", "b"):
        world.live.leave("p", member)
    world.clock.advance(SETTINGS.scaledown_window_s - 1)
    world.live.enter("p", "soon", NEEDS)
    assert not pool.perhaps_asleep
    world.live.leave("p", "soon")
    world.clock.advance(SETTINGS.scaledown_window_s)
    world.live.enter("p", "late", NEEDS)
    assert pool.perhaps_asleep
    world.live.leave("p", "late")
    world.fail(FailureClass.COLD, times=2)
    state = world.live.state("p")
    assert (state.ready, state.booting, pool.became_ready.is_set(), pool.perhaps_asleep) == (0, 1, False, True)


def test_a_missing_feature_is_switched_off_and_the_pool_stays(world: World) -> None:
    """Until the files are read again."""
    world.fail(FailureClass.MISCONFIGURED, feature="tools")
    state = world.live.state("p")
    assert (state.features_off, state.breaker) == ({"tools"}, BreakerState.CLOSED)
    world.live.configure({"p": SETTINGS})
    assert world.live.state("p").features_off == frozenset()


def test_a_misconfigured_pool_is_out_for_a_minute_or_until_a_reload(world: World) -> None:
    """A redeploy may have mended it; one request finds out."""
    world.fail(FailureClass.MISCONFIGURED, status=401)
    state = world.live.state("p")
    assert (state.misconfigured, state.breaker_retry_s) == (True, MISCONFIGURED_PROBE_S)
    world.clock.advance(MISCONFIGURED_PROBE_S)
    assert world.live.state("p").breaker is BreakerState.HALF_OPEN
    world.fail(FailureClass.MISCONFIGURED, status=401)
    assert world.live.state("p").breaker is BreakerState.OPEN
    world.live.configure({"p": SETTINGS})
    assert world.live.state("p").breaker is BreakerState.CLOSED


@pytest.mark.parametrize("failure", [FailureClass.TIMEOUT, FailureClass.UNAVAILABLE])
def test_a_request_that_failed_alike_elsewhere_is_suspect(failure: FailureClass, world: World) -> None:
    """It is likely the request, so this pool's breaker does not count it; an engine's death it does."""
    for died, state in ((False, BreakerState.CLOSED), (True, BreakerState.OPEN)):
        if died and failure is FailureClass.TIMEOUT:
            return
        failed = AttemptFailed(failure, "detail", status=500, engine_died=died)
        for _ in range(5):
            world.live.failed("p", failed, NEEDS, 0, LIMITS, failed_alike=True)
        assert world.live.state("p").breaker is state


def test_a_probe_that_speaks_lets_others_in(world: World) -> None:
    """However long its answer gets."""
    world.fail(FailureClass.UNAVAILABLE, times=5)
    world.clock.advance(15)
    world.live.enter("p", "probe", NEEDS)
    assert world.live.state("p").breaker is BreakerState.OPEN
    world.live.answering("p", 1.0)
    assert world.live.state("p").breaker is BreakerState.CLOSED


def test_out_of_memory_closes_out_the_requests_shape(world: World) -> None:
    """The pool itself stays in."""
    world.fail(FailureClass.OUT_OF_MEMORY)
    state = world.live.state("p")
    assert (state.shapes_open, state.shapes_retry_s) == ({shape_bucket(NEEDS.total_tokens)}, 300.0)
    assert state.breaker is BreakerState.CLOSED


def test_two_deaths_with_the_same_largest_shape_in_flight_close_it_out(world: World) -> None:
    """The strike goes to the largest shape that was in flight, whichever request reports the death first."""
    large = Needs(prompt_tokens=30_000)
    for _ in range(2):
        for name in ("small", "large"):
            world.live.enter("p", name, large if name == "large" else NEEDS)
        for name in ("small", "large"):
            world.live.leave("p", name)
            world.fail(FailureClass.UNAVAILABLE, engine_died=True)
        world.clock.advance(60)
    assert world.live.state("p").shapes_open == {shape_bucket(large.total_tokens)}
