"""What a refusal for load tells of how many requests a pool takes at once."""

from __future__ import annotations

from pools.failures.classes import FailureClass
from pools.live.crowding import STANDS_S, Crowding
from pricing.clock import US_PER_S
from support.live_world import NEEDS, World

SOON_US = US_PER_S
LATE_US = round(STANDS_S * US_PER_S)


def test_of_several_refusals_the_last_knows_best() -> None:
    """Forty were sent where twenty have room: each that is refused leaves one fewer behind."""
    crowding = Crowding()
    assert crowding.most(2, 0) is None
    for running in (39, 38, 20):
        crowding.refused(running, 2, 0)
    crowding.refused(25, 2, 0)  # of some that came later
    assert crowding.most(2, SOON_US) == 20


def test_it_stands_for_a_while_and_for_these_containers() -> None:
    """Who else loads a pool may have gone after half a minute, and another container takes more at once."""
    crowding = Crowding()
    crowding.refused(20, 2, 0)
    assert crowding.most(3, SOON_US) is None
    assert crowding.most(2, LATE_US - 1) == 20
    assert crowding.most(2, LATE_US) is None


def test_a_pool_that_refused_beside_nothing_of_ours_gets_one_request_until_it_speaks() -> None:
    """Others fill it; nobody of ours will leave, so that one at a time has to find out."""
    crowding = Crowding()
    crowding.refused(0, 1, 0)
    assert crowding.most(1, SOON_US) == 1
    crowding.speaks()
    assert crowding.most(1, SOON_US) is None
    crowding.refused(1, 1, 0)
    crowding.speaks()  # the one that ran all the time
    assert crowding.most(1, SOON_US) == 1


def test_what_still_runs_when_a_request_is_refused_is_what_the_pool_takes(world: World) -> None:
    """The snapshot has it; the pool's next answer, of a request that ran beside it, changes nothing."""
    world.list(world.container())
    for member in ("a", "b"):
        world.live.enter("p", member, NEEDS)
    world.fail(FailureClass.OVERLOADED)
    world.clock.advance(2)
    world.live.answering("p", 0.1)
    assert world.live.state("p").most_in_flight == 2
