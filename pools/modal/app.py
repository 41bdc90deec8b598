"""What every App of ours has in common, a pool's and the router's: one Server, made in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import modal

from pools.modal.container import PoolServer


class Declared(Protocol):
    """The part of a declaration that pools and the router share. Durations are whole seconds, memory MiB."""

    @property
    def app(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def cpu_cores(self) -> float: ...
    @property
    def memory_mib(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def target_concurrency(self) -> int: ...
    @property
    def max_concurrency(self) -> int: ...
    @property
    def min_containers(self) -> int: ...
    @property
    def max_containers(self) -> int: ...
    @property
    def scaledown_window_s(self) -> int: ...
    @property
    def startup_timeout_s(self) -> int: ...
    @property
    def exit_grace_s(self) -> int: ...
    @property
    def routing_region(self) -> str: ...
    @property
    def compute_region(self) -> str | None: ...
    @property
    def authenticated(self) -> bool: ...


def make_app(
    declared: Declared, image: modal.Image, secrets: Sequence[modal.Secret], **own: Any
) -> tuple[modal.App, modal.Server]:
    """The App with its Server; nothing is asked of Modal yet. `own` is what only one kind of them says."""
    app = modal.App(declared.app, tags=dict(declared.tags))
    server = app.server(
        name=declared.server,
        image=image,
        env=dict(declared.env),
        secrets=secrets,
        cpu=declared.cpu_cores,
        memory=declared.memory_mib,
        port=declared.port,
        unauthenticated=not declared.authenticated,
        target_concurrency=declared.target_concurrency,
        max_concurrency=declared.max_concurrency,
        min_containers=declared.min_containers,
        max_containers=declared.max_containers,
        scaledown_window=declared.scaledown_window_s,
        startup_timeout=declared.startup_timeout_s,
        exit_grace_period=declared.exit_grace_s,
        routing_region=declared.routing_region,
        compute_region=declared.compute_region,
        **own,
    )
    return app, server(PoolServer)
