"""The router itself as everything that a Modal Server is declared with. Pure data, like `pools.modal.declare`.

A Server and no Web Function: those queue a request instead of refusing it, redirect it after 150 s, and run it again
when a container is lost, which for a router means to buy an answer twice (docs/decisions/025).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from pools.modal.declare import MIB_PER_GIB, PORT, app_name
from pools.modal.settings import ModalSettings, RouterSettings

SERVER: Final = "endpoint"
NAME: Final = "router"
"""Of its App behind the prefix, which no pool may have."""

PYTHON: Final = "3.12"
PACKAGES: Final = ("pricing", "pools", "policies", "router")
"""Whose sources and data a container gets."""

FOLDER: Final = "/policy"
"""Of the policy's files in a container, laid out as they lie here, so that what they name beside them is found."""

STARTUP_S: Final = 300
"""For an image that is pulled the first time; the router itself listens within seconds."""

SCALEDOWN_S: Final = 300
"""A container above the minimum stays this long without need: streams are long, and a container costs cents an hour."""

EXIT_GRACE_AT_MOST_S: Final = 3600
"""Modal's bound on how long a container that is told to stop may finish what it runs."""

GRACE_S: Final = 10
"""Of `sluice serve` after SIGTERM, for what outlasted the exit grace."""

STOP_S: Final = 27
"""Until a router that was sent SIGTERM has ended: its grace, five seconds for clients that do not read, five to write
rows, and the rest for a control plane that is slow to take back wakes. Modal kills after 30.
"""

STORES: Final = ("SLUICE_REDIS_URL", "SLUICE_LEDGER")
TOKEN: Final = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class RouterFile:
    """A file of the policy: where it lies here, where in a container, and what is in it."""

    local: Path
    remote: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """What runs: the product's version, a digest of its sources, and its hashed requirements."""

    version: str
    sources_sha256: str
    requirements: Path
    requirements_sha256: str


@dataclass(frozen=True, slots=True)
class RouterDeclaration:
    """One App with one Server. Durations are whole seconds, memory MiB, `cpu_cores` physical cores."""

    app: str
    place: str
    server: str
    tags: Mapping[str, str]
    python: str
    release: Release
    files: tuple[RouterFile, ...]
    command: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, tuple[str, ...]]  # name -> variables that it must hold
    cpu_cores: float
    memory_mib: int
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
    nonpreemptible: bool
    authenticated: bool

    def as_json(self) -> dict[str, Any]:
        """All of it, for people and for comparing, without places of this machine."""
        shown = {name: value for name, value in asdict(self).items() if name not in ("place", "release", "files")}
        return {
            **shown,
            "version": self.release.version,
            "sources": self.release.sources_sha256,
            "requirements": self.release.requirements_sha256,
            "files": {file.remote: file.sha256 for file in self.files},
        }


def declare_router(
    settings: ModalSettings,
    router: RouterSettings,
    release: Release,
    version: str,
    policy: Sequence[RouterFile],
    beside: Sequence[RouterFile],
    drain_s: float,
) -> RouterDeclaration:
    """What the router is deployed as. `version` is the policy's, `policy` the files of its set in their order, `beside`
    what those name; `drain_s` is the longest that an answer may take.
    """
    command = (
        "python", "-m", "router", "serve", "--host", "0.0.0.0", "--port", str(PORT), "--grace-s", str(GRACE_S),
        *(word for file in policy for word in ("--policy", file.remote)),
    )  # fmt: skip
    bare = RouterDeclaration(
        app=router_app(settings),
        place=router.place,
        server=SERVER,
        tags={},
        python=PYTHON,
        release=release,
        files=(*policy, *beside),
        command=command,
        env={
            "POOL_NAME": NAME,
            "POOL_COMMAND": json.dumps(command),
            "POOL_PORT": str(PORT),
            "POOL_STARTUP_S": str(STARTUP_S),
            "POOL_DRAIN_S": str(STOP_S),
        },
        secrets=router.secrets,
        cpu_cores=router.cpu_cores,
        memory_mib=math.ceil(router.memory_gib * MIB_PER_GIB),
        port=PORT,
        target_concurrency=router.target_concurrency,
        max_concurrency=router.max_concurrency,
        min_containers=router.min_containers,
        max_containers=router.max_containers,
        scaledown_window_s=SCALEDOWN_S,
        startup_timeout_s=STARTUP_S,
        exit_grace_s=min(EXIT_GRACE_AT_MOST_S, math.ceil(drain_s)),
        routing_region=settings.routing_region,
        compute_region=router.region,
        nonpreemptible=router.nonpreemptible,
        authenticated=router.proxy_auth,
    )
    return _tagged(bare, settings, version)


def router_app(settings: ModalSettings) -> str:
    """The App of the router."""
    return app_name(NAME, settings)


def is_router(tags: Mapping[str, str], settings: ModalSettings) -> bool:
    """Whether an App's tags say that it is the router of this prefix."""
    return tags.get("sluice") == settings.app_prefix and tags.get("role") == NAME


def _tagged(bare: RouterDeclaration, settings: ModalSettings, policy: str) -> RouterDeclaration:
    """With tags for the billing report, and a digest by which a plan sees any change."""
    own = {
        "sluice": settings.app_prefix,
        "role": NAME,
        "version": bare.release.version,
        "sources": bare.release.sources_sha256[:_DIGITS],
        "policy": policy,  # as /health of what is deployed says it
        "containers": f"{bare.min_containers}-{bare.max_containers}",
    }
    whole = json.dumps(bare.as_json(), sort_keys=True)
    plan = {"plan": hashlib.sha256(whole.encode()).hexdigest()[:_DIGITS]}
    return replace(bare, tags={**settings.tags, **own, **plan})
