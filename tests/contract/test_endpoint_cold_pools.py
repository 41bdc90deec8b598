"""Pools that sleep: woken once for all who wait, or the client is told at once when to come back."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

from pools.platform import ContainerInfo
from support.endpoint import before_scripts, before_simulated, one_pool, policy
from support.failing_pools import good
from support.scripted_server import Exchange


async def test_a_sleeping_pool_is_woken_once_for_all_who_wait(tmp_path: Path) -> None:
    """Six requests that come while a pool sleeps start one container, and are all served."""
    async with before_simulated(tmp_path, one_pool()) as endpoint:
        replies = await asyncio.gather(*[endpoint.chat(max_tokens=2) for _ in range(6)])
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert [reply.status for reply in replies] == [200] * 6
    assert {reply.headers["x-sluice-attempts"] for reply in replies} == {"1"}
    assert len(containers) == 1


async def test_a_pool_that_lost_its_container_is_woken_again(tmp_path: Path) -> None:
    """Without a platform's list a bare 503 is how it shows: the request waits for a new container, and is served."""
    lost = True

    async def loses(exchange: Exchange) -> None:
        nonlocal lost
        if exchange.request.method == "GET":
            await exchange.answer("200 OK", b"{}")
        elif lost:
            lost = False
            await exchange.answer("503 Service Unavailable", b"", "text/plain")
        else:
            await good(exchange)

    async with before_scripts(tmp_path, {"small": loses}, one_pool(), asleep=("small",)) as endpoint:
        await endpoint.wake("small")
        reply = await endpoint.chat(max_tokens=2)
        asked = [received.method for received in endpoint.upstream["small"].received]
    assert (reply.status, reply.headers["x-sluice-attempts"]) == (200, "2")
    assert asked == ["GET", "POST", "GET", "POST"]


async def test_a_burst_waits_for_room_while_more_containers_boot(tmp_path: Path) -> None:
    """One container takes twenty at once, and the platform answers 429 above that: the others wait in line, for it or
    for those that the burst starts, and none meets the 429.
    """
    async with before_simulated(tmp_path, one_pool(), speedup=1, awake=("small",)) as endpoint:
        replies = await asyncio.gather(*(endpoint.chat(max_tokens=100, sim_output_tokens=100) for _ in range(60)))
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert [(reply.status, reply.headers["x-sluice-attempts"]) for reply in replies] == [(200, "1")] * 60
    assert len(containers) > 1


async def test_a_burst_that_meets_a_429_waits_in_line_too(tmp_path: Path) -> None:
    """A container has gone since containers were last listed, so that the platform refuses what the router has room
    for: as many wait for those that run as were refused, and each is served at its second try.
    """
    files = one_pool()
    files["pools"]["small"] |= {"max_containers": 1}
    async with before_simulated(tmp_path, files, speedup=1, awake=("small",), platform_poll_s=600) as endpoint:
        now_us = endpoint.service.clock.wall_us()
        gone = [ContainerInfo(name, "ready", now_us, now_us) for name in ("still-there", "gone")]
        endpoint.service.live.observe_containers(now_us, {"small": gone})
        replies = await asyncio.gather(*(endpoint.chat(max_tokens=60, sim_output_tokens=60) for _ in range(40)))
    tried = Counter((reply.status, reply.headers["x-sluice-attempts"]) for reply in replies)
    assert tried == {(200, "1"): 20, (200, "2"): 20}


async def test_a_burst_on_a_pool_that_fell_asleep_unseen_waits_for_its_boot(tmp_path: Path) -> None:
    """The platform ended the container since it was last listed. Thirty requests meet its 503, or come meanwhile: one
    boot serves them all, no breaker opens, and no budget of retries is asked.
    """
    files = one_pool()
    files["pools"]["small"] |= {"max_containers": 1, "scaledown_window_s": 2, "boot_s": 5}
    async with before_simulated(tmp_path, files, speedup=2, awake=("small",), platform_poll_s=600) as endpoint:
        assert (await endpoint.chat(max_tokens=2)).status == 200
        state = endpoint.service.live.state
        while (await endpoint.control("GET", "/containers"))["small"] or (state("small").idle_s or 0) <= 2:
            pass
        assert state("small").ready == 1
        replies = await asyncio.gather(*(endpoint.chat(max_tokens=20) for _ in range(30)))
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert {reply.status for reply in replies} == {200}
    assert {reply.headers["x-sluice-attempts"] for reply in replies} <= {"1", "2"}
    assert len(containers) == 1


async def test_a_burst_on_a_full_pool_wakes_no_pool_that_would_be_ready_later(tmp_path: Path) -> None:
    """Sixty short requests where twenty run at once: the cheap pool serves all of them, in less time than the next
    tier takes to boot.
    """
    files = policy()
    for pool in files["pools"].values():
        pool |= {"max_containers": 1, "boot_s": 40}
    async with before_simulated(tmp_path, files, speedup=4, awake=("small",)) as endpoint:
        asked = {"model": "chat:economy", "max_tokens": 60, "sim_output_tokens": 60}
        replies = await asyncio.gather(*(endpoint.chat(**asked) for _ in range(60)))
        containers = await endpoint.control("GET", "/containers")
    assert {(reply.status, reply.headers["x-sluice-pool"]) for reply in replies} == {(200, "small")}
    assert {name: len(alive) for name, alive in containers.items()} == {"small": 1, "mid": 0, "other": 0, "big": 0}


async def test_who_waited_in_line_until_the_deadline_is_told_so(tmp_path: Path) -> None:
    """503 with what it waited for, and the advice to come again: nothing ran."""
    files = one_pool(defaults={"first_byte_deadline_s": 20})
    files["pools"]["small"] |= {"max_containers": 1, "target_concurrency": 1, "max_concurrency": 1}
    async with before_simulated(tmp_path, files, awake=("small",)) as endpoint:
        long = asyncio.create_task(endpoint.chat(max_tokens=4000, sim_output_tokens=4000))
        while not endpoint.service.live.state("small").in_flight:
            await asyncio.to_thread(lambda: None)
        reply = await endpoint.chat(max_tokens=2)
        assert (await long).status == 200
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (503, "no_capable_pool", "true")
    waited = re.search(
        r"within the (\d+) s that it waited: small: 1 requests in flight", reply.json["error"]["message"]
    )
    assert waited is not None
    assert 20 <= int(waited[1]) < 40


async def test_a_boot_longer_than_the_deadline_is_answered_at_once(tmp_path: Path) -> None:
    """503 `model_warming` with the boot's length in Retry-After, while the pool is woken; then it serves."""
    files = one_pool(defaults={"first_byte_deadline_s": 20})
    files["pools"]["small"]["boot_s"] = 40
    async with before_simulated(tmp_path, files) as endpoint:
        reply = await endpoint.chat(max_tokens=2)
        await endpoint.wake("small")
        served = await endpoint.chat(max_tokens=2)
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert (reply.status, reply.code) == (503, "model_warming")
    assert int(reply.headers["retry-after"]) == 40
    assert reply.headers["x-should-retry"] == "true"
    assert served.status == 200
    assert len(containers) == 1


async def test_a_client_s_short_deadline_is_not_waited_through(tmp_path: Path) -> None:
    """A client that gives a cold pool less than its boot is told at once to come back."""
    files = one_pool()
    files["pools"]["small"]["boot_s"] = 40
    async with before_simulated(tmp_path, files) as endpoint:
        reply = await endpoint.chat(max_tokens=2, headers={"x-sluice-timeout-s": "10"})
    assert (reply.status, reply.code) == (503, "model_warming")


async def test_warming_up_ahead_needs_the_right_and_answers_at_once(tmp_path: Path) -> None:
    """`/warmup` says which pool a model name wakes and when it is ready; asking again wakes nothing more."""
    async with before_simulated(tmp_path) as endpoint:
        first = await endpoint.ask("POST", "/warmup", "ops", json={"model": "text"})
        again = await endpoint.ask("GET", "/warmup?pool=small", "ops")
        await endpoint.wake("small")
        ready = await endpoint.ask("POST", "/warmup", "ops", json={"pool": "small"})
        containers = (await endpoint.control("GET", "/containers"))["small"]
    assert first.json == {"pool": "small", "status": "starting", "expected_ready_in_s": 1.0}
    assert again.json["status"] == "starting"
    assert ready.json == {"pool": "small", "status": "ready", "expected_ready_in_s": 0.0}
    assert len(containers) == 1
