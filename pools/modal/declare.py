"""A pool's row as everything that a Modal Server is declared with. Pure data, so that a plan can be shown and compared
without an account.

One App a pool, because Modal's billing report has one row an App. The GPU is a pinned string: a list, or a name that
may be upgraded (`H100`), would leave open what is billed. Concurrency and memory come from the catalogue's arithmetic,
the time that a start may take from the boot model.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from pools.catalog.engine_args import DRAIN_S, engine_command
from pools.fit.memory import GIB
from pools.fit.timing import boot_seconds
from pools.modal.image import COMPILED, WEIGHTS, ImageRecipe, image_recipe
from pools.modal.settings import ModalSettings
from pools.spec import PoolSpec

PORT: Final = 8000
SERVER: Final = "pool"
"""Of the one Server in an App; short, because App and Server together are one label of its address."""

START_TIMES: Final = 2.0
"""A start may take this many times its boot model, as long as the router waits for one."""

START_AT_LEAST_S: Final = 300
DOWNLOAD_GB_PER_S: Final = 0.2
"""Of weights that are not in the Volume yet: a cautious guess, added to the time that a start may take."""

EXIT_GRACE_S: Final = 120
"""How long a container that is told to stop may finish what it runs; it bills while it does. Then comes SIGTERM, and
vLLM's own drain of `DRAIN_S`."""

MIB_PER_GIB: Final = 1024
_PLAN_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Declaration:
    """One App with one Server. Durations are whole seconds, memory MiB, `cpu_cores` physical cores."""

    pool: str
    place: str
    app: str
    server: str
    tags: Mapping[str, str]
    gpu: str
    cpu_cores: float
    memory_mib: int
    image: ImageRecipe
    command: tuple[str, ...]
    env: Mapping[str, str]
    volumes: Mapping[str, str]  # mount point -> name of a Volume
    secrets: tuple[str, ...]
    port: int
    target_concurrency: int
    max_concurrency: int
    min_containers: int
    max_containers: int
    scaledown_window_s: int
    startup_timeout_s: int
    exit_grace_s: int
    routing_region: str
    compute_region: str | None
    authenticated: bool = True

    def as_json(self) -> dict[str, Any]:
        """All of it, for people and for comparing; the place says where it comes from and is no part of it."""
        return {name: value for name, value in asdict(self).items() if name != "place"}


def declare(pool: PoolSpec, settings: ModalSettings) -> Declaration:
    """What a pool is deployed as. Raises FileProblem for a row that nothing here could run, NoServer among them."""
    command = engine_command(pool, PORT)
    startup_s = startup_timeout_s(pool)
    env = {
        "POOL_NAME": pool.name,
        "POOL_COMMAND": json.dumps(command),
        "POOL_PORT": str(PORT),
        "POOL_STARTUP_S": str(startup_s),
        "POOL_DRAIN_S": str(DRAIN_S),
    }
    bare = Declaration(
        pool=pool.name,
        place=pool.place,
        app=app_name(pool.name, settings),
        server=SERVER,
        tags=_tags(pool, settings),
        gpu=gpu_text(pool),
        cpu_cores=pool.cpu_cores,
        memory_mib=math.ceil(pool.memory_gib * MIB_PER_GIB),
        image=image_recipe(pool),
        command=command,
        env=env,
        volumes={WEIGHTS: settings.weights_volume, COMPILED: settings.cache_volume},
        secrets=settings.secrets,
        port=PORT,
        target_concurrency=pool.target_concurrency,
        max_concurrency=pool.max_concurrency,
        min_containers=pool.min_containers,
        max_containers=pool.max_containers,
        scaledown_window_s=math.ceil(pool.scaledown_window_s),
        startup_timeout_s=startup_s,
        exit_grace_s=EXIT_GRACE_S,
        routing_region=settings.routing_region,
        compute_region=pool.region,
    )
    return _with_plan(bare)


def app_name(pool: str, settings: ModalSettings) -> str:
    """The App of a pool. It becomes part of a host name, so it has letters, digits and hyphens only."""
    return re.sub(r"[^a-z0-9]+", "-", f"{settings.app_prefix}-{pool}".lower()).strip("-")


def gpu_text(pool: PoolSpec) -> str:
    """`L4`, `H100!:8`."""
    return pool.gpu.platform_name if pool.gpu_count == 1 else f"{pool.gpu.platform_name}:{pool.gpu_count}"


def startup_timeout_s(pool: PoolSpec) -> int:
    """How long a container may take until it serves, the first one's download of the weights included."""
    weights_gb = pool.model.weights_gib[pool.quantization] * GIB / 1e9
    return max(START_AT_LEAST_S, math.ceil(START_TIMES * boot_seconds(pool) + weights_gb / DOWNLOAD_GB_PER_S))


def _tags(pool: PoolSpec, settings: ModalSettings) -> dict[str, str]:
    """What the billing report can be grouped by, and what tells ours from other Apps. Values fit Modal's rules."""
    own = {
        "sluice": settings.app_prefix,
        "pool": pool.name,
        "model": pool.model.id,
        "quantization": pool.quantization,
        "gpu": pool.gpu.id,
        "gpu_count": str(pool.gpu_count),
        "engine": f"{pool.engine}-{pool.engine_version}",
    }
    return {**settings.tags, **own}


def _with_plan(bare: Declaration) -> Declaration:
    """With a tag that two declarations share only if they are the same: by it a plan sees what has changed."""
    digest = hashlib.sha256(json.dumps(bare.as_json(), sort_keys=True).encode()).hexdigest()[:_PLAN_DIGITS]
    tagged = {**bare.tags, "plan": digest}
    return replace(bare, tags=tagged)
