"""The platform on Modal, held against a control plane on loopback: lists, wakes, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import modal
import pytest
from grpclib import Status

from pools.modal.deploy import deploy
from pools.modal.leases import LEASE_TIMES, LOOK_S
from pools.modal.live import ON_MODAL, QUIET_S, ModalPlatform
from pools.modal.settings import Watched
from pools.platform import PlatformUnavailable
from pricing.clock import ManualClock
from support.modal_apps import APP, DECLARED, OTHER, POOL, SETTINGS, deployed_pools
from support.modal_control_plane import FakeModal

BOOT_S = 100.0
WATCHED = {each.pool: Watched(each.app, each.server, 0, BOOT_S) for each in DECLARED.values()}


@pytest.fixture
def fake() -> FakeModal:
    return FakeModal()


@pytest.fixture
def client(fake: FakeModal) -> Iterator[modal.Client]:
    with deployed_pools(fake) as client:
        yield client


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def platform(client: modal.Client, clock: ManualClock) -> ModalPlatform:
    return ModalPlatform(WATCHED, SETTINGS, clock, client)


def minimum(fake: FakeModal) -> int:
    return int(fake.app(APP).autoscaler.min_containers)


async def test_containers_are_listed_by_pool_with_their_starts(fake: FakeModal, platform: ModalPlatform) -> None:
    """One that serves is ready, one that does not is booting, one that waits for a GPU is none, asleep is empty."""
    fake.boot(APP, "ta-1", 1_700_000_000.5)
    fake.serve(APP, "ta-1")
    fake.boot(APP, "ta-2", 1_700_000_100.0)
    fake.boot(APP, "ta-3", 0.0)
    listed = await platform.containers()
    assert [(one.id, one.state, one.started_us) for one in listed[POOL]] == [
        ("ta-1", "ready", 1_700_000_000_500_000),
        ("ta-2", "booting", 1_700_000_100_000_000),
    ]
    assert listed[OTHER] == ()


async def test_looking_at_pools_that_sleep_asks_one_question(fake: FakeModal, platform: ModalPlatform) -> None:
    """Whatever the number of pools; and no question goes to a pool."""
    before = sum(fake.calls.values())
    await platform.containers()
    assert fake.calls["TaskList"] == 1
    assert sum(fake.calls.values()) - before <= 2  # a hello may come with the first


async def test_a_wake_goes_back_once_a_container_serves(fake: FakeModal, platform: ModalPlatform) -> None:
    """The minimum is one while the pool boots, and the row's as soon as it serves."""
    await platform.wake(POOL)
    assert minimum(fake) == 1
    fake.boot(APP, "ta-1", 1.0)
    await platform.containers()
    assert minimum(fake) == 1
    fake.serve(APP, "ta-1")
    await platform.containers()
    assert minimum(fake) == 0
    assert fake.app(DECLARED[OTHER].app).autoscaler.min_containers == 0


async def test_a_wake_without_a_container_ends_with_its_lease(
    fake: FakeModal, platform: ModalPlatform, clock: ManualClock
) -> None:
    """After twice the boot model nothing keeps on booting."""
    await platform.wake(POOL)
    clock.advance(LEASE_TIMES * BOOT_S - 1)
    await platform.containers()
    assert minimum(fake) == 1
    clock.advance(2)
    await platform.containers()
    assert minimum(fake) == 0


async def test_a_deployment_that_resets_a_wake_is_noticed(
    fake: FakeModal, client: modal.Client, platform: ModalPlatform
) -> None:
    """It wipes the override; the next list asks again."""
    await platform.wake(POOL)
    await asyncio.to_thread(deploy, DECLARED[POOL], SETTINGS, client)
    assert minimum(fake) == 0
    await platform.containers()
    assert minimum(fake) == 1


async def test_a_minimum_that_a_dead_router_left_is_taken_back(
    fake: FakeModal, client: modal.Client, platform: ModalPlatform
) -> None:
    """Nobody leases it, a container serves: the first look sets it to the row's."""
    dead = ModalPlatform(WATCHED, SETTINGS, ManualClock(), client)
    await dead.wake(POOL)
    fake.boot(APP, "ta-1", 1.0)
    await platform.containers()
    assert minimum(fake) == 1  # it boots, so somebody may be waiting for it
    fake.serve(APP, "ta-1")
    fresh = ModalPlatform(WATCHED, SETTINGS, ManualClock(), client)
    await fresh.containers()
    assert minimum(fake) == 0


async def test_settings_are_looked_at_now_and_then_only(
    fake: FakeModal, platform: ModalPlatform, clock: ManualClock
) -> None:
    """Once at first, then every few minutes."""
    fake.boot(APP, "ta-1", 1.0)
    fake.serve(APP, "ta-1")
    for _ in range(3):
        await platform.containers()
    assert fake.calls["FunctionGetSchedulingParams"] == 1
    clock.advance(LOOK_S)
    await platform.containers()
    assert fake.calls["FunctionGetSchedulingParams"] == 2


async def test_closing_takes_wakes_back(fake: FakeModal, platform: ModalPlatform) -> None:
    """A router that stops leaves no pool that boots for ever."""
    await platform.wake(POOL)
    await platform.aclose()
    assert minimum(fake) == 0


async def test_a_wake_whose_answer_is_lost_is_taken_back_all_the_same(
    fake: FakeModal, client: modal.Client, clock: ManualClock
) -> None:
    """Nobody knows whether Modal took it; its lease ends like any other's."""
    hasty = ModalPlatform(WATCHED, SETTINGS, clock, client, timeout_s=0.2)
    fake.late_s["FunctionUpdateSchedulingParams"] = 0.5
    with pytest.raises(PlatformUnavailable, match=r"did not answer within 0\.2 s"):
        await hasty.wake(POOL)
    fake.heal()
    clock.advance(LEASE_TIMES * BOOT_S + 1)
    await hasty.containers()
    assert minimum(fake) == 0
    assert len(fake.asked("FunctionUpdateSchedulingParams")) >= 2


async def test_a_control_plane_that_is_late_is_not_waited_for(
    fake: FakeModal, client: modal.Client, clock: ManualClock
) -> None:
    """The list fails within its time, and what was known stays in force."""
    hasty = ModalPlatform(WATCHED, SETTINGS, clock, client, timeout_s=0.05)
    fake.late_s["TaskList"] = 0.3
    with pytest.raises(PlatformUnavailable, match=r"did not answer within 0\.05 s"):
        await hasty.containers()


async def test_too_many_questions_are_followed_by_silence(
    fake: FakeModal, platform: ModalPlatform, clock: ManualClock
) -> None:
    """After "resource exhausted" nothing is asked for a while, longer each time, and then again."""
    fake.fail("TaskList", Status.RESOURCE_EXHAUSTED)
    for quiet_s in (QUIET_S[0], 2 * QUIET_S[0]):
        with pytest.raises(PlatformUnavailable, match="refused for its rate or a limit"):
            await platform.containers()
        asked = fake.calls["TaskList"]
        clock.advance(quiet_s - 1)
        with pytest.raises(PlatformUnavailable, match="asked again in 1 s"):
            await platform.containers()
        assert fake.calls["TaskList"] == asked
        clock.advance(1)
    fake.heal()
    assert await platform.containers() == {POOL: (), OTHER: ()}


async def test_silence_holds_for_wakes_too(fake: FakeModal, platform: ModalPlatform) -> None:
    """A wake is not asked for while the control plane is left alone; its lease ends like any other's."""
    fake.fail("TaskList", Status.RESOURCE_EXHAUSTED)
    with pytest.raises(PlatformUnavailable):
        await platform.containers()
    with pytest.raises(PlatformUnavailable, match="asked again in 15 s"):
        await platform.wake(POOL)
    assert minimum(fake) == 0
    assert fake.calls["FunctionUpdateSchedulingParams"] == 0


async def test_pools_of_new_files_are_listed_and_leases_kept(
    fake: FakeModal, client: modal.Client, clock: ManualClock
) -> None:
    """A pool that was woken and then taken out of the files still gets its minimum back."""
    platform = ModalPlatform({POOL: WATCHED[POOL]}, SETTINGS, clock, client)
    await platform.wake(POOL)
    platform.configure({OTHER: WATCHED[OTHER]}, SETTINGS)
    assert set(await platform.containers()) == {POOL, OTHER}
    clock.advance(LEASE_TIMES * BOOT_S + 1)
    await platform.containers()
    assert minimum(fake) == 0


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (Status.UNAUTHENTICATED, "knows no token here; set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"),
        (Status.PERMISSION_DENIED, "as ordered"),
        (Status.INVALID_ARGUMENT, "as ordered"),
        (Status.UNIMPLEMENTED, "as ordered"),
    ],
)
async def test_refusals_become_one_error_that_says_why(
    fake: FakeModal, platform: ModalPlatform, status: Status, says: str
) -> None:
    """No error of the SDK's reaches the router."""
    fake.fail("TaskList", status)
    with pytest.raises(PlatformUnavailable, match=says):
        await platform.containers()


async def test_a_connection_that_breaks_under_a_question_is_that_error_too(
    fake: FakeModal, platform: ModalPlatform
) -> None:
    """What the library below the SDK raises then would end the looks at Modal for good."""
    fake.hangs_up = {"TaskList", "FunctionGet"}
    with pytest.raises(PlatformUnavailable, match="Modal: Connection lost"):
        await platform.containers()
    with pytest.raises(PlatformUnavailable, match="Modal: Connection lost"):
        await platform.wake(POOL)
    fake.heal()
    assert set(await platform.containers()) == {POOL, OTHER}


async def test_one_pool_that_cannot_be_listed_hides_no_other(fake: FakeModal, platform: ModalPlatform) -> None:
    """The others' containers come with the error, which names the pool."""
    for name in (POOL, OTHER):
        fake.boot(DECLARED[name].app, f"ta-{name}", 1.0)
        fake.serve(DECLARED[name].app, f"ta-{name}")
    fake.fail("FlashContainerList", Status.PERMISSION_DENIED, times=1)
    with pytest.raises(PlatformUnavailable, match=f"^{POOL}: Modal: as ordered$") as trouble:
        await platform.containers()
    assert {name: [info.state for info in infos] for name, infos in trouble.value.listed.items()} == {OTHER: ["ready"]}
    assert set(await platform.containers()) == {POOL, OTHER}


LATE_S = 0.2
TROUBLES = [
    (Status.PERMISSION_DENIED, "Modal: as ordered"),
    (Status.INVALID_ARGUMENT, "Modal: as ordered"),
    (Status.UNAUTHENTICATED, "knows no token here"),
    (Status.NOT_FOUND, "is the pool deployed"),
    (Status.RESOURCE_EXHAUSTED, "refused for its rate or a limit"),
    (None, f"did not answer within {LATE_S:g} s"),
]
"""How the control plane fails, None being late, and what of it is said."""


def troubled(fake: FakeModal, client: modal.Client, rpc: str, status: Status | None) -> ModalPlatform:
    """A platform whose control plane fails at one question."""
    if status is not None:
        fake.fail(rpc, status)
        return ModalPlatform(WATCHED, SETTINGS, ManualClock(), client)
    fake.late_s[rpc] = 3 * LATE_S
    return ModalPlatform(WATCHED, SETTINGS, ManualClock(), client, timeout_s=LATE_S)


@pytest.mark.parametrize(("status", "says"), TROUBLES)
async def test_a_pool_whose_servers_cannot_be_asked_after_is_left_out(
    fake: FakeModal, client: modal.Client, status: Status | None, says: str
) -> None:
    """Of a pool with a container nothing is said; one that sleeps is known to."""
    fake.boot(APP, "ta-1", 1.0)
    platform = troubled(fake, client, "FlashContainerList", status)
    with pytest.raises(PlatformUnavailable, match=says) as trouble:
        await platform.containers()
    assert trouble.value.listed == {OTHER: ()}


@pytest.mark.parametrize(("status", "says"), TROUBLES)
async def test_counts_that_cannot_be_had_are_one_error(
    fake: FakeModal, client: modal.Client, status: Status | None, says: str
) -> None:
    """The last hour of a pool, refused or late."""
    platform = troubled(fake, client, "ServerGetTimeRangeStats", status)
    with pytest.raises(PlatformUnavailable, match=says):
        await platform.last_hour(POOL)


@pytest.mark.parametrize(("status", "says"), TROUBLES)
async def test_settings_that_cannot_be_had_spoil_no_list(
    fake: FakeModal, client: modal.Client, status: Status | None, says: str
) -> None:
    """An autoscaler that does not say its minimum: an error by itself, while lists go on."""
    fake.boot(APP, "ta-1", 1.0)
    fake.serve(APP, "ta-1")
    platform = troubled(fake, client, "FunctionGetSchedulingParams", status)
    assert [info.state for info in (await platform.containers())[POOL]] == ["ready"]
    fresh = troubled(fake, client, "FunctionGetSchedulingParams", status)
    with pytest.raises(PlatformUnavailable, match=says):
        await fresh.minimum(POOL)


async def test_a_list_stands_although_wakes_cannot_be_looked_after(fake: FakeModal, platform: ModalPlatform) -> None:
    """A token that may look and not change still tells who is alive."""
    await platform.wake(POOL)
    fake.boot(APP, "ta-1", 1.0)
    fake.serve(APP, "ta-1")
    fake.fail("FunctionUpdateSchedulingParams", Status.PERMISSION_DENIED)
    assert len((await platform.containers())[POOL]) == 1
    fake.heal()
    await platform.containers()
    assert minimum(fake) == 0


async def test_a_router_on_modal_speaks_with_its_token(
    fake: FakeModal, client: modal.Client, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the SDK leaves tokens aside; what a container may ask about other Apps is not documented."""
    monkeypatch.setenv(ON_MODAL, "1")
    monkeypatch.setenv("MODAL_SERVER_URL", fake.url)
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-router")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-router")
    fake.boot(APP, "ta-1", 1.0)
    platform = ModalPlatform(WATCHED, SETTINGS, clock)
    assert [info.state for info in (await platform.containers())[POOL]] == ["booting"]
    await platform.wake(POOL)
    assert minimum(fake) == 1
    assert fake.token_ids == {"ak-fake", "ak-router"}


async def test_waking_a_pool_that_is_not_deployed_says_so(
    fake: FakeModal, platform: ModalPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    """With the command that tells more, and with nothing that would have to be taken back."""
    fake.app(APP).stopped = True
    with pytest.raises(PlatformUnavailable, match="is the pool deployed\\? `sluice pools plan` says"):
        await platform.wake(POOL)
    await platform.aclose()
    assert not caplog.records


async def test_a_wake_ends_with_its_app_and_holds_up_no_other(
    fake: FakeModal, platform: ModalPlatform, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A pool that is stopped while it is awake for us has no minimum any more; the wake of another still goes back."""
    await platform.wake(OTHER)
    await platform.wake(POOL)
    fake.app(DECLARED[OTHER].app).stopped = True
    clock.advance(LEASE_TIMES * BOOT_S + 1)
    await platform.containers()
    assert minimum(fake) == 0
    await platform.aclose()
    assert not caplog.records


async def test_a_wake_that_cannot_be_taken_back_holds_up_no_other(
    fake: FakeModal, platform: ModalPlatform, clock: ManualClock
) -> None:
    """The first of two refuses; the second goes back with the same list, the first with the next."""
    await platform.wake(OTHER)
    await platform.wake(POOL)
    clock.advance(LEASE_TIMES * BOOT_S + 1)
    fake.fail("FunctionUpdateSchedulingParams", Status.PERMISSION_DENIED, times=1)
    await platform.containers()
    assert minimum(fake) == 0
    assert fake.app(DECLARED[OTHER].app).autoscaler.min_containers == 1
    await platform.containers()
    assert fake.app(DECLARED[OTHER].app).autoscaler.min_containers == 0
