"""What deploying the router sends to Modal, from a real deployment to a control plane on loopback."""

from __future__ import annotations

from pathlib import Path

from support.modal_control_plane import FakeModal, control_plane
from support.modal_router import PAGE, SECRETS, sent_page, write_policy


def test_deploying_the_router_sends_what_its_page_says(tmp_path: Path) -> None:
    """Resources, scaling, stop, access, tags, Secrets with what they must hold, image, files and command.

    A page that should change is written anew with `python -m support.modal_router` in `tests/`.
    """
    fake = FakeModal(secrets=tuple(SECRETS))
    with control_plane(fake) as client:
        assert sent_page(write_policy(tmp_path), fake, client) == PAGE.read_text(encoding="utf-8")


def test_nothing_that_is_sent_holds_a_value_of_a_secret(tmp_path: Path) -> None:
    """Variables are named; the environment that is sent has only what the container's start needs."""
    fake = FakeModal(secrets=tuple(SECRETS))
    with control_plane(fake) as client:
        sent_page(write_policy(tmp_path), fake, client)
    sent = [env for env in fake.env_secrets.values() if env]
    assert [sorted(env) for env in sent] == [
        ["POOL_COMMAND", "POOL_DRAIN_S", "POOL_NAME", "POOL_PORT", "POOL_STARTUP_S"]
    ]
