"""Apps on Modal, held against a control plane on loopback: deployed, found again, stopped; refusals say why."""

from __future__ import annotations

from collections.abc import Iterator

import modal
import pytest
from grpclib import Status

from pools.modal.declare import declare
from pools.modal.deploy import delete_volumes, deploy, deployed, existing_secrets, stop
from pools.modal.errors import ModalTrouble
from pools.modal.settings import ModalSettings
from support.modal_apps import APP, DECLARED, OTHER, POOL, SETTINGS, SPECS, deployed_pools
from support.modal_control_plane import FakeModal


@pytest.fixture
def fake() -> FakeModal:
    return FakeModal()


@pytest.fixture
def client(fake: FakeModal) -> Iterator[modal.Client]:
    with deployed_pools(fake) as client:
        yield client


def test_only_apps_that_are_ours_are_listed(fake: FakeModal, client: modal.Client) -> None:
    """Another prefix's pools, and Apps without tags, are nobody's business here."""
    assert [each.pool for each in deployed(SETTINGS, client)] == [POOL, OTHER]
    assert deployed(ModalSettings(app_prefix="sluice-qwen3"), client) == ()


def test_a_prefix_is_found_again_as_it_was_written_into_names(fake: FakeModal, client: modal.Client) -> None:
    """`Team.A` becomes `team-a` in an App's name; what is deployed under it must be stoppable."""
    settings = ModalSettings(app_prefix="Team.A")
    deploy(declare(SPECS[POOL], settings), settings, client)
    assert [each.app for each in deployed(settings, client)] == [f"team-a-{POOL}"]


def test_a_stopped_app_leaves_nothing_alive(fake: FakeModal, client: modal.Client) -> None:
    """Its containers are gone, stopping again is no error, and its Volumes go only when asked for."""
    fake.boot(APP, "ta-1", 1.0)
    mine = next(each for each in deployed(SETTINGS, client) if each.pool == POOL)
    stop(mine, SETTINGS, client)
    stop(mine, SETTINGS, client)
    assert [each.pool for each in deployed(SETTINGS, client)] == [OTHER]
    assert [app.tasks for app in fake.apps.values()] == [{}, {}]
    assert set(fake.volumes.values()) == set(delete_volumes(SETTINGS, client))
    assert fake.volumes == {}


def test_secrets_are_looked_for_before_anything_is_deployed(fake: FakeModal, client: modal.Client) -> None:
    """Only those that exist come back."""
    fake.secrets.add("hf")
    assert existing_secrets(("hf", "other"), SETTINGS, client) == ["hf"]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (Status.UNAUTHENTICATED, "Modal knows no token here"),
        (Status.RESOURCE_EXHAUSTED, r"a limit of the account is reached \(as ordered\); try again later"),
        (Status.FAILED_PRECONDITION, "deploying 'sluice-qwen3-4b-bf16-a10': as ordered"),
    ],
)
def test_a_deployment_that_fails_says_why(fake: FakeModal, client: modal.Client, status: Status, says: str) -> None:
    """In one line, with what to do."""
    fake.fail("FunctionCreate", status)
    with pytest.raises(ModalTrouble, match=says):
        deploy(DECLARED[POOL], SETTINGS, client)


def test_a_deployment_whose_connection_breaks_says_so(fake: FakeModal, client: modal.Client) -> None:
    """Instead of showing what the library below the SDK raises."""
    fake.hangs_up = {"FunctionCreate"}
    with pytest.raises(ModalTrouble, match="deploying 'sluice-qwen3-4b-bf16-a10': Connection lost"):
        deploy(DECLARED[POOL], SETTINGS, client)
