"""Engines that die under the same size of request twice: that size goes elsewhere, all others are still served."""

from __future__ import annotations

from pathlib import Path

from support.endpoint import Endpoint, Policy, Reply, before_simulated, policy

COOLDOWN_S = 120
LARGE = 3_000  # answer bound: with any short prompt the shape of 2,049 to 4,096 tokens
SMALL = 20


def files(*ladder: str) -> Policy:
    """A class that lists these pools in order. They boot for longer than the reports of one death take."""
    found = policy(defaults={"reload_poll_s": 60, "shape_cooldown_s": COOLDOWN_S, "first_byte_deadline_s": 30})
    found["classes"]["chat"] = {"objective": "listed", "ladder": {"premium": list(ladder)}}
    for pool in ladder:
        found["pools"][pool]["boot_s"] = 10
    return found


async def large(endpoint: Endpoint, *, stream: bool = False) -> Reply:
    return await endpoint.chat(max_tokens=LARGE, stream=stream)


async def small(endpoint: Endpoint) -> Reply:
    return await endpoint.chat(max_tokens=SMALL)


async def dies_under(endpoint: Endpoint, pool: str, *, stream: bool = False) -> Reply:
    """A large request under which the pool's engine dies. Returns once the pool has another container."""
    await endpoint.fail(pool, "engine_death", min_total_tokens=LARGE)
    reply = await large(endpoint, stream=stream)
    await endpoint.service.clock.sleep(40)
    await endpoint.wake(pool)
    return reply


def tried(endpoint: Endpoint) -> list[tuple[str, str]]:
    return [(str(row.pool), row.outcome) for row in endpoint.rows()]


async def test_the_second_death_under_one_size_sends_it_elsewhere_until_it_has_cooled_down(tmp_path: Path) -> None:
    """The first death is only a strike; after the second, small requests go on there, and at last large ones too."""
    async with before_simulated(tmp_path, files("mid", "big"), awake=("mid", "big")) as endpoint:
        assert (await dies_under(endpoint, "mid")).status == 200
        assert (await dies_under(endpoint, "mid", stream=True)).status == 200
        before = len(tried(endpoint))
        assert tried(endpoint) == [("mid", "unavailable"), ("big", "answered")] * 2
        for reply in (await large(endpoint), await small(endpoint)):
            assert reply.status == 200
        await endpoint.service.clock.sleep(COOLDOWN_S)
        await endpoint.wake("mid")
        assert (await large(endpoint)).status == 200
        await endpoint.requests(5)
        assert tried(endpoint)[before:] == [("big", "answered"), ("mid", "answered"), ("mid", "answered")]


async def test_a_request_under_which_the_size_went_out_does_not_try_that_pool_again(tmp_path: Path) -> None:
    """With no other pool it fails, though a pool that was unavailable is otherwise tried twice, as after the first
    death (what comes of that depends on how soon the platform's list shows it); small ones go on.
    """
    async with before_simulated(tmp_path, files("mid"), awake=("mid",)) as endpoint:
        await dies_under(endpoint, "mid")
        before = tried(endpoint)
        assert [pool for pool, _ in before] == ["mid", "mid"]
        reply = await dies_under(endpoint, "mid")
        assert (reply.status, reply.code) == (502, "chain_failed")
        assert tried(endpoint)[len(before) :] == [("mid", "unavailable")]
        refused = await large(endpoint)
        assert (refused.status, refused.code) == (503, "no_capable_pool")
        assert [one["reason"] for one in refused.json["error"]["metadata"]["rejected"]] == ["shape"]
        assert (await small(endpoint)).status == 200


async def test_deaths_under_two_sizes_say_nothing_about_either(tmp_path: Path) -> None:
    """One strike each: both sizes are served there again."""
    async with before_simulated(tmp_path, files("mid", "big"), awake=("mid", "big")) as endpoint:
        await dies_under(endpoint, "mid")
        await endpoint.fail("mid", "engine_death")
        assert (await small(endpoint)).status == 200
        await endpoint.service.clock.sleep(40)
        await endpoint.wake("mid")
        before = len(tried(endpoint))
        assert [reply.status for reply in (await large(endpoint), await small(endpoint))] == [200, 200]
        await endpoint.requests(4)
        assert tried(endpoint)[before:] == [("mid", "answered"), ("mid", "answered")]
