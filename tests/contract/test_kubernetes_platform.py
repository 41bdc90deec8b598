"""The platform on Kubernetes, held against a fake API server on loopback: lists, wakes, sleeps, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pools.kubernetes.api import QUIET_S, TOKEN_KEPT_S
from pools.kubernetes.live import SELECTOR_KEPT_S, KubernetesPlatform
from pools.kubernetes.settings import DeploymentRef, KubernetesSettings
from pools.platform import ContainerInfo, PlatformUnavailable
from pools.platforms.several import SeveralPlatforms
from pricing.clock import ManualClock
from support.kubernetes_api import NAMESPACE, TOKEN, FakeDeployment, FakeKubernetes, FakePod, kubernetes_api, status

S = 1_000_000
NOW_US = 1_767_225_600 * S
REFS = {"chat": DeploymentRef(NAMESPACE, "vllm", scale_to_zero=True), "code": DeploymentRef(NAMESPACE, "coder")}


@pytest.fixture
async def fake() -> AsyncIterator[FakeKubernetes]:
    coder = FakeDeployment(1, selector={"matchLabels": {"app": "coder"}})
    async with kubernetes_api(vllm=FakeDeployment(), coder=coder) as fake:
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def platform(fake: FakeKubernetes, session: aiohttp.ClientSession, clock: ManualClock) -> KubernetesPlatform:
    return on(fake, session, clock)


def on(fake: FakeKubernetes, session: aiohttp.ClientSession, clock: ManualClock, **more: Any) -> KubernetesPlatform:
    keys = {"url": fake.url, "token": TOKEN, "ca_file": None, **more}
    timeout_s = keys.pop("timeout_s", 5.0)
    return KubernetesPlatform(KubernetesSettings(REFS, **keys), session, clock, timeout_s)


async def test_pods_are_containers(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """Alive from their node's word on, serving once they are ready; those without a node, or ending, are none."""
    fake.deployments["vllm"].pods = [
        FakePod("a", NOW_US, NOW_US + 90 * S),
        FakePod("b", NOW_US + 5 * S),
        FakePod("waits-for-a-node"),
        FakePod("ends", NOW_US, NOW_US + 1, ending=True),
        FakePod("crashed", NOW_US, phase="Failed"),
    ]
    listed = await platform.containers()
    assert listed == {
        "chat": (
            ContainerInfo("a", "ready", NOW_US, NOW_US + 90 * S),
            ContainerInfo("b", "booting", NOW_US + 5 * S, None),
        ),
        "code": (),
    }


@pytest.mark.parametrize(
    ("ip", "port", "address"),
    [
        ("10.0.0.7", 8000, "http://10.0.0.7:8000"),
        ("fd00::7", 9000, "http://[fd00::7]:9000"),
        ("10.0.0.7", None, None),
        (None, 8000, None),
    ],
)
async def test_a_ready_pod_has_an_address_where_the_policy_names_the_port(
    fake: FakeKubernetes,
    session: aiohttp.ClientSession,
    clock: ManualClock,
    ip: str | None,
    port: int | None,
    address: str | None,
) -> None:
    """Without the port nobody knows where its engine tells its metrics; a Pod that boots tells none."""
    refs = {"chat": DeploymentRef(NAMESPACE, "vllm", metrics_port=port)}
    settings = KubernetesSettings(refs, url=fake.url, token=TOKEN, ca_file=None)
    fake.deployments["vllm"].pods = [FakePod("a", NOW_US, NOW_US, ip=ip), FakePod("b", NOW_US, ip="10.0.0.8")]
    [ready, boots] = (await KubernetesPlatform(settings, session, clock, 5.0).containers())["chat"]
    assert (ready.address, boots.address) == (address, None)


async def test_a_look_is_one_question_a_pool(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """The selector never changes in a Deployment's life, so that it is asked for rarely; no Pod is ever asked."""
    await platform.containers()
    fake.asked.clear()
    await platform.containers()
    assert fake.asked == [f"GET /api/v1/namespaces/{NAMESPACE}/pods"] * 2


async def test_a_deployment_that_was_made_anew_is_found_again(
    fake: FakeKubernetes, platform: KubernetesPlatform, clock: ManualClock
) -> None:
    """Its Pods have other labels; by the old ones its pool would look as if it had none for ever."""
    fake.deployments["vllm"].pods = [FakePod("old", NOW_US, NOW_US)]
    await platform.containers()
    selector = {"matchLabels": {"app": "vllm", "release": "2"}}
    fake.deployments["vllm"] = FakeDeployment(1, pods=[FakePod("new", NOW_US, NOW_US)], selector=selector)
    clock.advance(SELECTOR_KEPT_S + 1)
    assert [container.id for container in (await platform.containers())["chat"]] == ["new"]


@pytest.mark.parametrize(
    "body", [b'{"items": [{"metadata": {"uid": "\xff"}}]}', b'{"items":' * 100_000], ids=["bytes", "depths"]
)
async def test_an_answer_that_nobody_could_have_meant_is_told(
    fake: FakeKubernetes, platform: KubernetesPlatform, body: bytes
) -> None:
    """Bytes that are no text, and depths without an end: the list is not there, and whoever looks goes on looking."""
    await platform.containers()
    fake.troubles = [web.Response(body=body, content_type="application/json") for _ in REFS]
    with pytest.raises(PlatformUnavailable, match="the answer cannot be read"):
        await platform.containers()
    assert set(await platform.containers()) == set(REFS)


@pytest.mark.parametrize("code", [410, 500, 504])
async def test_statuses_that_pass_are_told_in_the_servers_words(
    fake: FakeKubernetes, platform: KubernetesPlatform, code: int
) -> None:
    """Gone, broken or late: what was known stays in force."""
    fake.troubles = [status(code, "too old resource version") for _ in REFS]
    with pytest.raises(PlatformUnavailable, match=f"status {code}: too old resource version"):
        await platform.containers()


async def test_a_wake_scales_from_nothing_to_one(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """And leaves alone what others have scaled already."""
    await platform.wake("chat")
    assert fake.deployments["vllm"].replicas == 1
    fake.deployments["vllm"].replicas = 3
    await platform.wake("chat")
    assert fake.deployments["vllm"].replicas == 3


async def test_sleep_ends_the_last_pod_and_no_other(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """Two Pods were wanted by somebody: they are theirs to end. A scale that is not ours is never changed."""
    fake.deployments["vllm"].replicas = 2
    await platform.sleep("chat")
    assert fake.deployments["vllm"].replicas == 2
    fake.deployments["vllm"].replicas = 1
    await platform.sleep("chat")
    await platform.sleep("code")
    assert (fake.deployments["vllm"].replicas, fake.deployments["coder"].replicas) == (0, 1)
    assert platform.sleepers == {"chat"}


async def test_without_scale_to_zero_nothing_is_woken(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """It is said who has to do it."""
    with pytest.raises(PlatformUnavailable, match="scale Deployment 'coder' up, or set scale_to_zero: true"):
        await platform.wake("code")
    with pytest.raises(PlatformUnavailable, match="pool 'gone' is no Deployment of this policy"):
        await platform.wake("gone")
    assert fake.asked == []


async def test_a_change_that_meets_another_is_seen_again(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """Once; what goes on changing is left for the next wake."""
    fake.conflicts = 1
    await platform.wake("chat")
    assert fake.deployments["vllm"].replicas == 1
    fake.deployments["vllm"].replicas, fake.conflicts = 0, 2
    with pytest.raises(PlatformUnavailable, match="changed in the same moment"):
        await platform.wake("chat")


@pytest.mark.parametrize(
    ("denied", "ask", "says"),
    [
        ("get deployments", "containers", "may not get deployments; grant it by a Role"),
        ("list pods", "containers", "may not list pods; grant it by a Role .*cannot list resource"),
        ("patch deployments/scale", "wake", "may not patch deployments/scale"),
    ],
)
async def test_a_right_that_is_missing_is_named(
    fake: FakeKubernetes, platform: KubernetesPlatform, denied: str, ask: str, says: str
) -> None:
    """403: who runs the router is told what to grant."""
    fake.denied = {denied}
    with pytest.raises(PlatformUnavailable, match=says):
        await (platform.containers() if ask == "containers" else platform.wake("chat"))


async def test_one_deployment_that_is_missing_hides_no_other(
    fake: FakeKubernetes, platform: KubernetesPlatform
) -> None:
    """404 of one; the list of the other comes with the trouble."""
    del fake.deployments["coder"]
    fake.deployments["vllm"].pods = [FakePod("a", NOW_US)]
    with pytest.raises(PlatformUnavailable, match="no Deployment 'coder' in namespace 'models'") as trouble:
        await platform.containers()
    assert trouble.value.listed == {"chat": (ContainerInfo("a", "booting", NOW_US, None),)}


async def test_refusals_for_the_rate_are_kept_to(
    fake: FakeKubernetes, platform: KubernetesPlatform, clock: ManualClock
) -> None:
    """429 with its Retry-After, or without: nobody is asked until then."""
    fake.troubles = [status(429, "too many requests", **{"Retry-After": "7"}), status(429, "too many requests")]
    for pause_s in (7, QUIET_S):
        with pytest.raises(PlatformUnavailable, match=f"asked again in {pause_s:g} s"):
            await platform.containers()
        fake.asked.clear()
        clock.advance(pause_s - 1)
        with pytest.raises(PlatformUnavailable, match="asked again in 1 s"):
            await platform.containers()
        assert fake.asked == []
        clock.advance(1)
    assert set(await platform.containers()) == {"chat", "code"}


async def test_a_renewed_token_is_read_again(
    fake: FakeKubernetes, session: aiohttp.ClientSession, clock: ManualClock, tmp_path: Path
) -> None:
    """From its file: after a while, and at once where it is refused."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="utf-8")
    platform = on(fake, session, clock, token=None, token_file=path)
    await platform.containers()
    fake.token = "another"
    path.write_text("another", encoding="utf-8")
    with pytest.raises(PlatformUnavailable, match="does not know our token"):
        await platform.containers()
    await platform.containers()
    fake.token = "a third"
    path.write_text("a third", encoding="utf-8")
    clock.advance(TOKEN_KEPT_S + 1)
    await platform.containers()


async def test_a_token_that_cannot_be_read_is_said(
    fake: FakeKubernetes, session: aiohttp.ClientSession, clock: ManualClock, tmp_path: Path
) -> None:
    """Outside of a cluster nothing is mounted."""
    platform = on(fake, session, clock, token=None, token_file=tmp_path / "none")
    with pytest.raises(PlatformUnavailable, match="no token can be read there; mount a service account"):
        await platform.containers()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (web.Response(status=500, text="<html>"), "answers with status 500: no reason given"),
        (web.Response(status=302, headers={"Location": "https://elsewhere"}), "answers with status 302"),
        (web.Response(text="not json"), "the answer cannot be read"),
        (web.json_response({"spec": {"selector": {"matchExpressions": [{}]}}}), "selects Pods by expressions"),
    ],
)
async def test_other_answers_are_troubles(
    fake: FakeKubernetes, platform: KubernetesPlatform, answer: web.Response, says: str
) -> None:
    """None is taken for an empty list, which would put a pool that serves to sleep."""
    fake.troubles = [answer]
    with pytest.raises(PlatformUnavailable, match=says) as trouble:
        await platform.containers()
    assert "chat" not in trouble.value.listed


async def test_silence_and_absence_are_troubles(session: aiohttp.ClientSession, clock: ManualClock) -> None:
    """No answer within the time, and nobody at the address; neither says our token."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fake = FakeKubernetes(url=f"http://127.0.0.1:{port}")
    with pytest.raises(PlatformUnavailable, match=r"no answer within 0\.05 s"):
        await on(fake, session, clock, timeout_s=0.05).containers()
    server.close()
    await server.wait_closed()
    with pytest.raises(PlatformUnavailable, match="not reached") as trouble:
        await on(fake, session, clock).containers()
    assert TOKEN not in str(trouble.value)


async def test_a_certificate_file_that_is_none_is_said(
    fake: FakeKubernetes, session: aiohttp.ClientSession, clock: ManualClock, tmp_path: Path
) -> None:
    """Before anything is sent."""
    path = tmp_path / "ca.crt"
    path.write_text("nothing", encoding="utf-8")
    platform = on(fake, session, clock, url=fake.url.replace("http:", "https:"), ca_file=path)
    with pytest.raises(PlatformUnavailable, match="no certificate can be read there; correct ca_file"):
        await platform.containers()
    assert fake.asked == []


class Elsewhere:
    """Another platform, as a test has it."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.down = False

    async def containers(self) -> dict[str, tuple[ContainerInfo, ...]]:
        if self.down:
            raise PlatformUnavailable("the other one is down")
        return {"image": (ContainerInfo("x", "ready", 1, 2),), "chat": (ContainerInfo("not ours", "ready", 1, 2),)}

    async def wake(self, pool: str) -> None:
        self.woken.append(pool)

    async def aclose(self) -> None:
        pass


async def test_beside_another_platform_each_has_its_pools(fake: FakeKubernetes, platform: KubernetesPlatform) -> None:
    """Kubernetes those it names, the other the rest; where one is down, what the other says still counts."""
    other = Elsewhere()
    both = SeveralPlatforms(platform, other)
    fake.deployments["vllm"].pods = [FakePod("a", NOW_US)]
    ours = {"chat": (ContainerInfo("a", "booting", NOW_US, None),), "code": ()}
    theirs = {"image": (ContainerInfo("x", "ready", 1, 2),)}
    assert await both.containers() == {**theirs, **ours}
    await both.wake("image")
    await both.wake("chat")
    assert (other.woken, fake.deployments["vllm"].replicas, both.sleepers) == (["image"], 1, {"chat"})
    other.down = True
    with pytest.raises(PlatformUnavailable, match="the other one is down") as trouble:
        await both.containers()
    assert trouble.value.listed == ours
