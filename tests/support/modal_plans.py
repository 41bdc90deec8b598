"""What a deployment sends to Modal, of one pool, as a page that people can review.

`python -m support.modal_plans` in `tests/` writes the golden pages anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal

from pools.catalog.load import load_catalog
from pools.modal.declare import declare
from pools.modal.deploy import deploy
from pools.modal.settings import ModalSettings
from pools.spec import PoolSpec
from support.modal_control_plane import FakeApp, FakeModal, control_plane
from support.modal_pages import command_of, page_text, server_part

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "modal_plans"
SETTINGS = ModalSettings(secrets=("huggingface",))


def sent_plan(pool: PoolSpec, fake: FakeModal, client: modal.Client) -> dict[str, Any]:
    """Deploy a pool to the fake and read back what reached it."""
    return _page(fake, sent(pool, fake, client))


def sent(pool: PoolSpec, fake: FakeModal, client: modal.Client) -> FakeApp:
    """Deploy a pool to the fake."""
    declaration = declare(pool, SETTINGS)
    deploy(declaration, SETTINGS, client)
    return fake.app(declaration.app)


def _page(fake: FakeModal, app: FakeApp) -> dict[str, Any]:
    function = app.function
    gpu = function.resources.gpu_config
    return {
        **server_part(fake, app),
        "gpu": f"{gpu.gpu_type} × {gpu.count}",
        "volumes": {mount.mount_path: fake.volumes[mount.volume_id] for mount in function.volume_mounts},
        "secrets": sorted(fake.named_secrets[one] for one in function.secret_ids if one in fake.named_secrets),
        "command": list(_lines(command_of(fake, app))),
    }


def _lines(command: list[str]) -> Iterator[str]:
    """One argument with its value on a line."""
    line = ""
    for word in command:
        if word.startswith("--") and line:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line


def main() -> None:
    fake = FakeModal(secrets=SETTINGS.secrets)
    FOLDER.mkdir(exist_ok=True)
    with control_plane(fake) as client:
        for name, pool in load_catalog().pools.items():
            (FOLDER / f"{name}.json").write_text(page_text(sent_plan(pool, fake, client)), encoding="utf-8")


if __name__ == "__main__":
    main()
