"""What deploying the router sends to Modal, as a page that people can review.

`python -m support.modal_router` in `tests/` writes the golden page anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

import modal

from policies.deploy.router import WantedRouter, wanted_router
from pools.modal.deploy_router import deploy_router
from pools.modal.router import PACKAGES
from router.deploy.release import this_release
from support.modal_control_plane import FakeModal, control_plane
from support.modal_pages import command_of, page_text, server_part

PAGE = Path(__file__).resolve().parents[1] / "golden" / "modal_router.json"
NOW_US = 1_795_000_000_000_000
SECRETS = {
    "sluice-stores": ["SLUICE_REDIS_URL", "SLUICE_LEDGER"],
    "sluice-pools": ["MODAL_PROXY_KEY", "MODAL_PROXY_SECRET"],
    "modal-token": ["MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"],
}
DATA = (".lua", ".txt", ".yaml")  # beside modules, in packages: scripts, requirements, catalogue and prices
CHANGING = ("policy", "sources", "plan", "version")  # with every edit of the product or its catalogue


def router_policy(**router: Any) -> dict[str, Any]:
    """A policy that asks for a router on Modal before one pool there; keys of `router` come over the smallest."""
    pool = "qwen3-4b-bf16-a10"
    return {
        "version": 1,
        "price_book": "modal-2026-10",
        "platform": {"modal": {"tags": {"cost-centre": "r42"}, "router": {"secrets": SECRETS, **router}}},
        "defaults": {"max_total_s": 420},
        "classes": {"chat": {"ladder": {"premium": [pool]}}},
        "tenants": {"acme": {"keys": [{"id": "acme-1", "sha256": hashlib.sha256(b"sk-acme").hexdigest()}]}},
        "endpoints": {
            pool: {
                "url": f"https://ws--sluice-{pool}-pool.us-east.modal.direct",
                "headers": {"Modal-Key": "${MODAL_PROXY_KEY}", "Modal-Secret": "${MODAL_PROXY_SECRET}"},
            }
        },
    }


def write_policy(folder: Path, **router: Any) -> Path:
    path = folder / "policy.yaml"
    path.write_text(json.dumps(router_policy(**router), indent=1), encoding="utf-8")
    return path


def wanted(path: Path) -> WantedRouter:
    return wanted_router([path], this_release(), NOW_US)


def sent_page(path: Path, fake: FakeModal, client: modal.Client) -> str:
    """Deploy the router of a policy to the fake and read back what reached it."""
    asked = wanted(path)
    deploy_router(asked.declaration, asked.settings, client)
    return page_text(_page(fake, asked.declaration.app))


def _page(fake: FakeModal, name: str) -> dict[str, Any]:
    app = fake.app(name)
    function = app.function
    shared = server_part(fake, app)
    placed = [PurePosixPath(place) for mount in function.mount_ids for place in fake.mounts[mount]]
    policy = [place for place in placed if place.is_relative_to("/policy")]
    sources = [place for place in placed if place not in policy]
    return {
        **shared,
        "tags": {name: "…" if name in CHANGING else value for name, value in shared["tags"].items()},
        "gpu": function.resources.gpu_config.count,
        "nonpreemptible": function.scheduler_placement.nonpreemptible,
        "volumes": [mount.mount_path for mount in function.volume_mounts],
        "secrets": {
            fake.named_secrets[one]: list(fake.required_keys[one])
            for one in function.secret_ids
            if one in fake.named_secrets
        },
        "policy": sorted(map(str, policy)),
        "packages": [name for name in PACKAGES if any(name in place.parts[:-1] for place in sources)],
        "data": [kind for kind in DATA if any(place.name.endswith(kind) for place in sources)],
        "command": command_of(fake, app),
    }


def main() -> None:
    import tempfile

    fake = FakeModal(secrets=tuple(SECRETS))
    with control_plane(fake) as client, tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(sent_page(write_policy(Path(folder)), fake, client), encoding="utf-8")


if __name__ == "__main__":
    main()
