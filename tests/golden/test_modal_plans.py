"""What deploying each shipped pool sends to Modal, from real deployments to a control plane on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import modal
import pytest

from pools.catalog.load import load_catalog
from support.modal_control_plane import FakeModal, control_plane
from support.modal_pages import page_text
from support.modal_plans import FOLDER, SETTINGS, sent, sent_plan
from support.repository import ROOT
from support.worker import isolated

POOLS = load_catalog().pools


@pytest.fixture(scope="module")
def fake() -> FakeModal:
    return FakeModal(secrets=SETTINGS.secrets)


@pytest.fixture(scope="module")
def client(fake: FakeModal) -> Iterator[modal.Client]:
    with control_plane(fake) as client:
        yield client


@pytest.mark.parametrize("name", POOLS)
def test_a_deployment_sends_what_its_page_says(name: str, fake: FakeModal, client: modal.Client) -> None:
    """GPU, CPU, memory, concurrency, scaling, tags, image, environment and engine arguments, all of them.

    A page that should change is written anew with `python -m support.modal_plans` in `tests/`.
    """
    page = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert page_text(sent_plan(POOLS[name], fake, client)) == page


def test_every_shipped_pool_has_a_page() -> None:
    """And no page is left over from a pool that is gone."""
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(POOLS)


def test_a_container_gets_all_that_the_worker_imports(fake: FakeModal, client: modal.Client) -> None:
    """Its modules of ours, which the worker's own process names, are among what a deployment sends."""
    code = (
        "import sys, pools.modal.worker.__main__; print(*(m.__file__ for n, m in sys.modules.items() if 'pools' in n))"
    )
    imported = [Path(name).relative_to(ROOT) for name in isolated(ROOT, code).stdout.split()]
    function = sent(POOLS["instantid-fp16-a10"], fake, client).function
    placed = {Path(place) for mount in function.mount_ids for place in fake.mounts[mount]}
    below_home = {Path(*place.parts[2:]) for place in placed}  # the SDK puts packages into the container's home
    assert set(imported) - below_home == set()
    assert len(imported) > 10


def test_no_page_holds_a_secret() -> None:
    """Containers get secrets by name; a value would stand in the environment."""
    pages = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json"))
    assert not re.search(r"hf_[A-Za-z0-9]{8}|a[ks]-[A-Za-z0-9]{8}|TOKEN", pages)
