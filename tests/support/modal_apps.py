"""Two pools of the catalogue as Apps of a fake control plane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import modal

from pools.catalog.load import load_catalog
from pools.modal.declare import declare
from pools.modal.deploy import deploy
from pools.modal.settings import ModalSettings
from support.modal_control_plane import FakeModal, control_plane

SETTINGS = ModalSettings()
POOL = "qwen3-4b-bf16-a10"
OTHER = "qwen3-4b-fp16-t4"
SPECS = load_catalog().pools
DECLARED = {name: declare(SPECS[name], SETTINGS) for name in (POOL, OTHER)}
APP = DECLARED[POOL].app


@contextmanager
def deployed_pools(fake: FakeModal) -> Iterator[modal.Client]:
    """Both are deployed there; a client of that control plane."""
    with control_plane(fake) as client:
        for declaration in DECLARED.values():
            deploy(declaration, SETTINGS, client)
        yield client
