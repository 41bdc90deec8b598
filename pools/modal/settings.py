"""What a policy file says of Modal under `platform: modal:`. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

POLL_S: Final = 15.0
"""How often its control plane is worth asking who is alive; whoever waits for a boot looks more often."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """The router itself on Modal. `secrets` are Modal Secrets by name, each with the variables that it holds.

    `cpu_cores` are physical cores. `target_concurrency` and `max_concurrency` are requests that run in one container.
    `region` is where containers run, None for anywhere; `proxy_auth` asks callers for Modal's own token as well.
    """

    secrets: Mapping[str, tuple[str, ...]]
    min_containers: int = 2
    max_containers: int = 4
    target_concurrency: int = 100
    max_concurrency: int = 400
    cpu_cores: float = 1.0
    memory_gib: float = 1.0
    region: str | None = None
    nonpreemptible: bool = False
    proxy_auth: bool = False
    place: str = ""

    @property
    def variables(self) -> frozenset[str]:
        """Everything that the Secrets hold."""
        return frozenset(name for names in self.secrets.values() for name in names)


@dataclass(frozen=True, slots=True)
class ModalSettings:
    """Where and under which names pools are deployed, and the router if it is to run there too.

    `environment` is a Modal Environment, None for the account's default. Apps are named `<app_prefix>-<pool>`.
    `secrets` are names of Modal Secrets that containers get (a Hugging Face token); `tags` go onto every App and from
    there into the billing report. `place` is where the file says so.
    """

    environment: str | None = None
    app_prefix: str = "sluice"
    routing_region: str = "us-east"
    weights_volume: str = "sluice-weights"
    cache_volume: str = "sluice-compile-cache"
    secrets: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    router: RouterSettings | None = None


@dataclass(frozen=True, slots=True)
class LastHour:
    """What Modal counted of one Server in the last hour. Requests that its proxy refused (429, 503) are among them."""

    requests: int
    by_status: Mapping[int, int]
    containers_started: int
    containers_failed: int


@dataclass(frozen=True, slots=True)
class Watched:
    """One pool as it is deployed, with its row's minimum and boot model."""

    app: str
    server: str
    min_containers: int
    boot_s: float
