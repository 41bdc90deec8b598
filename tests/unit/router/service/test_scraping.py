"""Which pools are asked for their metrics: none that sleeps, and none that would live longer for being asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from policies.policy import Policy
from pools.live.all_pools import LivePools, LiveSettings
from pools.live.engine_metrics import EngineLoad
from pools.live.engine_said import FRESH_S
from pools.platform import ContainerInfo
from pools.spec import KvCache
from pools.wire.http import HttpBackend
from pricing.clock import ManualClock
from router.service.resting import idle_too_long
from router.service.scraping import LESS_OFTEN_S, Scraping
from support.choosing import load, write_policy

POLICY = """\
version: 1
price_book: modal-2026-10
classes: {chat: {ladder: {premium: [plain, deployment, serverless, tgi]}}}
pools:
  plain: {extends: qwen3-4b-bf16-a10}
  deployment: {extends: qwen3-4b-bf16-a10, scaledown_window_s: 60}
  serverless: {extends: qwen3-4b-bf16-a10}
  tgi: {extends: qwen3-4b-bf16-a10, engine: tgi}
endpoints:
  plain: {url: "http://plain.example", always_on: 1}
  deployment: {url: "http://deployment.example"}
  serverless: {url: "http://serverless.example"}
  tgi: {url: "http://tgi.example", always_on: 1}
platform:
  modal: {}
  kubernetes: {deployments: {deployment: {name: vllm, scale_to_zero: true}}}
"""


class Needs:
    total_tokens = 1000

    def kv_tokens(self, cache: KvCache) -> int:
        return 1000


@dataclass
class Engine:
    """Stands for a backend, or for one container: says `page`, None for nothing."""

    page: str | None = None
    asked: int = 0

    async def metrics(self, timeout_s: float) -> str | None:
        self.asked += 1
        return self.page


@dataclass
class World:
    policy: Policy
    clock: ManualClock = field(default_factory=ManualClock)
    engines: dict[str, Engine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.live = LivePools(self.clock, on_change=lambda *_: None, on_missed=lambda *_: None)
        self.live.configure(
            {
                name: LiveSettings(40, 60, always_on=self.policy.endpoints[name].always_on)
                for name in self.policy.pools
                if name in self.policy.endpoints
            }
        )
        self.engines = {name: Engine() for name in self.policy.endpoints}
        engines = cast(dict[str, HttpBackend], self.engines)
        self.scraping = Scraping(self.live, engines, engines.__getitem__, self.clock)

    def serves(self, *pools: str, count: int = 1, at: tuple[str | None, ...] = ()) -> None:
        """So many containers in each pool, or one at each address."""
        now_us = self.clock.wall_us()
        addresses = at or (None,) * count
        infos = tuple(
            ContainerInfo(str(number), "ready", now_us, now_us, address) for number, address in enumerate(addresses)
        )
        self.live.observe_containers(now_us, dict.fromkeys(pools, infos))

    def says(self, pool: str, running: int, kv_usage: float = 0.0) -> None:
        self.engines.setdefault(
            pool, Engine()
        ).page = f"vllm:num_requests_running {running}\nvllm:kv_cache_usage_perc {kv_usage}\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(load(write_policy(tmp_path, POLICY)))


def test_a_sleeping_pool_is_never_asked(world: World) -> None:
    """To ask it would start it, and bill."""
    assert world.scraping.worth_asking(world.policy) == ["plain"]


def test_a_pool_that_scales_down_is_asked_only_while_it_works_for_us(world: World) -> None:
    """A look is a request to its platform: between ours it would keep the container alive."""
    world.serves("serverless", "deployment")
    assert world.scraping.worth_asking(world.policy) == ["plain", "deployment"]
    world.live.enter("serverless", "req_1:1", Needs())
    assert world.scraping.worth_asking(world.policy) == ["plain", "deployment", "serverless"]
    world.live.leave("serverless", "req_1:1")
    assert world.scraping.worth_asking(world.policy) == ["plain", "deployment"]


async def test_who_does_not_answer_is_asked_less_often(world: World) -> None:
    """Twice as long each time, to a bound; one answer, and it is asked as ever."""
    for pause_s in (LESS_OFTEN_S[0], 2 * LESS_OFTEN_S[0], 4 * LESS_OFTEN_S[0]):
        await world.scraping.look(world.policy)
        assert world.scraping.worth_asking(world.policy) == []
        world.clock.advance(pause_s - 1)
        assert world.scraping.worth_asking(world.policy) == []
        world.clock.advance(1)
    world.says("plain", 1)
    await world.scraping.look(world.policy)
    assert world.scraping.worth_asking(world.policy) == ["plain"]
    assert world.engines["serverless"].asked == 0


async def test_what_an_engine_says_is_believed_for_half_a_minute(world: World) -> None:
    """Others' requests are those beyond ours; an old word says nothing about now."""
    world.live.enter("plain", "req_1:1", Needs())
    world.says("plain", 5, kv_usage=0.5)
    await world.scraping.look(world.policy)
    state = world.live.state("plain")
    assert (state.foreign_in_flight, state.company) == (4, 5)
    assert state.foreign_kv_share == pytest.approx(0.5 * 4 / 5)
    world.clock.advance(FRESH_S + 1)
    state = world.live.state("plain")
    assert (state.engine, state.foreign_in_flight, state.foreign_kv_share) == (None, 0, 0.0)


async def test_of_several_containers_nobody_knows_which_spoke(world: World) -> None:
    """Its word is shown, and nothing is made of it."""
    world.serves("deployment", count=2)
    world.says("deployment", 9)
    await world.scraping.look(world.policy)
    state = world.live.state("deployment")
    assert state.engine is not None
    assert (state.engine.running, state.foreign_in_flight) == (9, 0)


async def test_containers_with_addresses_are_asked_each_and_added_up(world: World) -> None:
    """All of them spoke, so what is not ours is others'; the pool's shared address is not asked."""
    world.serves("deployment", at=("http://a", "http://b"))
    world.live.enter("deployment", "req_1:1", Needs())
    world.says("http://a", 3, kv_usage=0.2)
    world.says("http://b", 5, kv_usage=0.6)
    await world.scraping.look(world.policy)
    state = world.live.state("deployment")
    assert state.engine == EngineLoad(running=8, waiting=0, kv_usage=pytest.approx(0.4), containers=2)
    assert (state.foreign_in_flight, world.engines["deployment"].asked) == (7, 0)
    assert state.foreign_kv_share == pytest.approx(0.4 * 7 / 8)


async def test_of_containers_that_do_not_all_speak_nothing_is_made(world: World) -> None:
    """A sum of some would take ours in the others for nobody's; it is asked less often, as any that is silent."""
    world.serves("deployment", at=("http://a", "http://b"))
    world.says("http://a", 3)
    world.engines["http://b"] = Engine()
    await world.scraping.look(world.policy)
    assert world.live.state("deployment").engine is None
    assert "deployment" not in world.scraping.worth_asking(world.policy)


async def test_a_container_that_came_since_makes_a_sum_nobodys(world: World) -> None:
    """Two spoke and three serve: ours may run in the third."""
    world.serves("deployment", at=("http://a", "http://b"))
    world.says("http://a", 3)
    world.says("http://b", 5)
    await world.scraping.look(world.policy)
    world.serves("deployment", at=("http://a", "http://b", "http://c"))
    world.live.engine_said("deployment", EngineLoad(8, 0, containers=2), 0)
    assert world.live.state("deployment").foreign_in_flight == 0


async def test_one_container_without_an_address_leaves_the_shared_one(world: World) -> None:
    """Only those that all can be asked are."""
    world.serves("deployment", at=("http://a", None))
    world.says("deployment", 9)
    await world.scraping.look(world.policy)
    assert (world.engines["deployment"].asked, world.live.state("deployment").foreign_in_flight) == (1, 0)


def rests(world: World) -> bool:
    return idle_too_long(world.live, world.policy, "deployment")


async def test_a_deployment_rests_once_nobody_used_it_for_its_window(world: World) -> None:
    """Not while anybody's request runs there, as far as its engine tells, nor before the window is over."""
    assert not rests(world)
    world.serves("deployment")
    world.clock.advance(59)
    assert not rests(world)
    world.clock.advance(2)
    assert rests(world)
    world.says("deployment", 1)
    await world.scraping.look(world.policy)
    assert not rests(world)
    world.clock.advance(FRESH_S + 1)
    world.live.enter("deployment", "req_1:1", Needs())
    assert not rests(world)
    world.live.leave("deployment", "req_1:1")
    assert not rests(world)
    world.clock.advance(61)
    assert rests(world)
