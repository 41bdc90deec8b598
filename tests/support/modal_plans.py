"""What a deployment sends to Modal, of one pool, as a page that people can review.

`python -m support.modal_plans` in `tests/` writes the golden pages anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import modal

from pools.catalog_load import load_catalog
from pools.engine_args import NoServer, engine_command
from pools.modal.declare import PORT, declare
from pools.modal.deploy import deploy
from pools.modal.settings import ModalSettings
from pools.spec import PoolSpec
from support.modal_control_plane import FakeApp, FakeModal, control_plane

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "modal_plans"
SETTINGS = ModalSettings(secrets=("huggingface",))


def served_pools() -> dict[str, PoolSpec]:
    """Shipped pools but those that nothing of ours serves."""
    served = {}
    for name, pool in load_catalog().pools.items():
        with suppress(NoServer):
            engine_command(pool, PORT)
            served[name] = pool
    return served


def sent_plan(pool: PoolSpec, fake: FakeModal, client: modal.Client) -> dict[str, Any]:
    """Deploy a pool to the fake and read back what reached it."""
    deploy(declare(pool, SETTINGS), SETTINGS, client)
    return _page(fake, fake.app(declare(pool, SETTINGS).app))


def page_text(plan: dict[str, Any]) -> str:
    return json.dumps(plan, indent=2, ensure_ascii=False) + "\n"


def _page(fake: FakeModal, app: FakeApp) -> dict[str, Any]:
    function = app.function
    gpu, scaling, http = function.resources.gpu_config, function.autoscaler_settings, function.http_config
    env = {name: value for secret in function.secret_ids for name, value in fake.env_secrets[secret].items()}
    return {
        "app": app.name,
        "tags": dict(sorted(app.tags.items())),
        "server": function.function_name,
        "runs": f"{function.module_name}.{function.implementation_name.removesuffix('.*')}",
        "gpu": f"{gpu.gpu_type} × {gpu.count}",
        "cpu_cores": function.resources.milli_cpu / 1000,
        "memory_mib": function.resources.memory_mb,
        "target_concurrency": scaling.target_concurrency_float,
        "max_concurrency": function.max_concurrent_inputs,
        "min_containers": scaling.min_containers,
        "max_containers": scaling.max_containers,
        "scaledown_window_s": scaling.scaledown_window,
        "startup_timeout_s": function.startup_timeout_secs,
        "exit_grace_s": http.exit_grace_period,
        "port": http.port,
        "proxy_auth": not http.unauthenticated,
        "routing_regions": list(http.proxy_regions),
        "compute_regions": list(function.scheduler_placement.regions),
        "volumes": {mount.mount_path: fake.volumes[mount.volume_id] for mount in function.volume_mounts},
        "secrets": sorted(fake.named_secrets[one] for one in function.secret_ids if one in fake.named_secrets),
        "image": app.image,
        "env": {name: value for name, value in sorted(env.items()) if name != "POOL_COMMAND"},
        "command": list(_lines(json.loads(env["POOL_COMMAND"]))),
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
        for name, pool in served_pools().items():
            (FOLDER / f"{name}.json").write_text(page_text(sent_plan(pool, fake, client)), encoding="utf-8")


if __name__ == "__main__":
    main()
