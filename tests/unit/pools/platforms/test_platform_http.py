"""The control plane's client against the simulated platform and against platforms that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pools.platform import ContainerInfo, PlatformUnavailable
from pools.platforms.http import HttpPlatform
from support.simulated import SPEC, simulated


@contextlib.asynccontextmanager
async def platform(base_url: str, timeout_s: float = 5.0) -> AsyncIterator[HttpPlatform]:
    client = HttpPlatform(base_url, timeout_s=timeout_s)
    yield client
    await client.aclose()


@contextlib.asynccontextmanager
async def misbehaving(answer: web.Response | None) -> AsyncIterator[str]:
    """A platform that always answers the same, or never."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if answer is None:
            await asyncio.Event().wait()
        return answer or web.Response()

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_containers_are_listed_as_they_boot_and_serve() -> None:
    """Nothing while asleep, a booting container after a wake, a ready one after its boot; looking wakes nothing."""
    async with simulated(awake=False) as server, platform(server.simulator.base_url) as client:
        asleep = await client.containers()
        await client.wake(SPEC.name)
        booting = (await client.containers())[SPEC.name]
        await server.until_ready()
        ready = (await client.containers())[SPEC.name]
    assert asleep == {SPEC.name: ()}
    assert [(one.state, one.ready_us) for one in booting] == [("booting", None)]
    (container,) = ready
    assert isinstance(container, ContainerInfo)
    assert container.id == booting[0].id
    assert container.ready_us
    assert container.ready_us > container.started_us


async def test_waking_twice_starts_one() -> None:
    """A wake-up returns when asked, and a second one changes nothing."""
    async with simulated(awake=False) as server, platform(server.simulator.base_url) as client:
        await client.wake(SPEC.name)
        await client.wake(SPEC.name)
        assert len((await client.containers())[SPEC.name]) == 1


async def test_an_unknown_pool_is_said_in_the_platform_s_words() -> None:
    """The error carries the status and the reason."""
    async with simulated() as server, platform(server.simulator.base_url) as client:
        with pytest.raises(PlatformUnavailable, match="status 404: no pool 'nope'"):
            await client.wake("nope")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (web.Response(status=500, text="oops"), "status 500: no reason given"),
        (web.Response(status=502, text="[]"), "status 502: no reason given"),
        (web.Response(text="<html>"), "cannot be read"),
        (web.Response(text='{"p": [{"id": 1}]}'), "cannot be read"),
        (
            web.Response(body=b'{"p": [{"id": "\xff", "state": "ready", "started_us": 1, "ready_us": 1}]}'),
            "cannot be read",
        ),
        (web.Response(body=b'{"p":' * 100_000), "cannot be read"),
        (web.Response(status=503, body=b'{"error": "\xff"}'), "status 503: no reason given"),
        (web.Response(status=503, body=b'{"error":' * 100_000), "status 503: no reason given"),
        (web.Response(status=302, headers={"Location": "/login"}), "status 302: no reason given"),
        (None, "no answer within 0.05 s"),
    ],
    ids=["error", "list", "html", "shape", "bytes", "depths", "said in bytes", "said in depths", "login", "silence"],
)
async def test_whatever_goes_wrong_is_one_error(answer: web.Response | None, says: str) -> None:
    """A status, a body that is no list of containers, silence: all are PlatformUnavailable."""
    timeout_s = 0.05 if answer is None else 30.0
    async with misbehaving(answer) as base_url, platform(base_url, timeout_s=timeout_s) as client:
        with pytest.raises(PlatformUnavailable, match=says):
            await client.containers()


async def test_a_wake_that_leads_to_a_login_is_none() -> None:
    """A redirect would be followed as a GET, whose page says nothing of a wake."""
    answer = web.Response(status=302, headers={"Location": "/login"})
    async with misbehaving(answer) as base_url, platform(base_url) as client:
        with pytest.raises(PlatformUnavailable, match="status 302"):
            await client.wake(SPEC.name)


async def test_nobody_there_is_the_same_error() -> None:
    """A refused connection asks whether the address is right."""
    async with misbehaving(web.Response()) as base_url:
        pass
    async with platform(base_url) as client:
        with pytest.raises(PlatformUnavailable, match="is the platform's address right"):
            await client.containers()
