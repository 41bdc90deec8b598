"""What a deployment sent to the control plane on loopback, read back: what pools' pages and the router's share."""

from __future__ import annotations

import json
from typing import Any

from support.modal_control_plane import FakeApp, FakeModal


def env_of(fake: FakeModal, app: FakeApp) -> dict[str, str]:
    """The environment that containers get, by name."""
    secrets = app.function.secret_ids
    return {name: value for secret in secrets for name, value in sorted(fake.env_secrets[secret].items())}


def server_part(fake: FakeModal, app: FakeApp) -> dict[str, Any]:
    """What every Server of ours has."""
    function = app.function
    scaling, http = function.autoscaler_settings, function.http_config
    return {
        "app": app.name,
        "tags": dict(sorted(app.tags.items())),
        "server": function.function_name,
        "runs": f"{function.module_name}.{function.implementation_name.removesuffix('.*')}",
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
        "image": app.image,
        "env": {name: value for name, value in env_of(fake, app).items() if name != "POOL_COMMAND"},
    }


def command_of(fake: FakeModal, app: FakeApp) -> list[str]:
    """What a container starts."""
    words: list[str] = json.loads(env_of(fake, app)["POOL_COMMAND"])
    return words


def page_text(page: dict[str, Any]) -> str:
    return json.dumps(page, indent=2, ensure_ascii=False) + "\n"
