"""What the process is told from outside, read once from the environment and the command line."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pricing.ledger.place import LedgerPlace, PostgresUrl, parse_ledger
from pricing.redis.address import RedisAddress
from pricing.redis.keys import prefix_of
from router.service.simulated import Simulated

_REPLICA: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_MIB: Final = 2**20
VARIABLES: Final = (
    "SLUICE_POLICY",
    "SLUICE_LEDGER",
    "SLUICE_REDIS_URL",
    "SLUICE_REDIS_NAMESPACE",
    "SLUICE_REPLICA",
    "SLUICE_BACKLOG_MIB",
    "SLUICE_HOST",
    "SLUICE_PORT",
    "SLUICE_LOG_LEVEL",
    "SLUICE_VIDEOS",
    "SLUICE_VIDEOS_MIB",
    "SLUICE_VIDEOS_KEEP_H",
    "SLUICE_METRICS_BY_TENANT",
    "SLUICE_KEY",
)
"""What is read from the environment; the last one by verbs that ask an endpoint."""


def unique_name() -> str:
    """A replica's name that no other has: host, process, and something random for a process that comes after it."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:60]
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Settings:
    """`policy_paths` are files or folders; an empty tuple means the shipped default policy.

    `redis` and a `ledger` in PostgreSQL are what replicas share, both or neither; without them one process keeps its
    budgets and its ledger in a file. `max_body_bytes` bounds a request's body; `grace_s` is how long a stop waits for
    running requests; `backlog_bytes` how much of the ledger may wait in Redis for PostgreSQL. `video_bytes` bounds the
    clips that are kept, `video_keep_s` for how long. `metrics_by_tenant` is how many tenants have metrics of their own.
    """

    policy_paths: tuple[Path, ...] = ()
    ledger: LedgerPlace = Path("sluice.sqlite")
    redis: RedisAddress | None = None
    namespace: str = "sluice"
    replica: str = field(default_factory=unique_name)
    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 20 * _MIB
    backlog_bytes: int = 512 * _MIB
    grace_s: float = 30.0
    platform_poll_s: float = 2.0
    house_flush_s: float = 10.0
    log_level: str = "info"
    assume_deployed: bool = False
    simulated: Simulated | None = None  # pools in the place of what the policy names
    videos: Path | None = None  # folder of video jobs and their clips; None: beside the ledger's file
    video_bytes: int = 2048 * _MIB
    video_keep_s: float = 86_400.0
    metrics_by_tenant: int = 0

    @property
    def video_folder(self) -> Path:
        if self.videos is not None:
            return self.videos
        beside = self.ledger if isinstance(self.ledger, Path) else Path("sluice.sqlite")
        return beside.with_name(f"{beside.name}.videos")

    def __post_init__(self) -> None:
        """Raises ValueError for half of what replicas share, and for names that are none."""
        database = isinstance(self.ledger, PostgresUrl)
        if self.redis is not None and not database:
            raise ValueError(
                f"SLUICE_REDIS_URL is set, and the ledger is the file {self.ledger}: replicas share their ledger in "
                "PostgreSQL; set SLUICE_LEDGER=postgresql://… too, or leave SLUICE_REDIS_URL away for a single process"
            )
        if database and self.redis is None:
            raise ValueError(
                f"the ledger is {self.ledger}, and SLUICE_REDIS_URL is not set: replicas share their budgets in Redis; "
                "set SLUICE_REDIS_URL=redis://… too, or name a file as SLUICE_LEDGER for a single process"
            )
        if not _REPLICA.fullmatch(self.replica):
            raise ValueError(f"SLUICE_REPLICA is '{self.replica}'; use 1 to 100 letters, digits and any of _ . : -")
        try:
            prefix_of(self.namespace)
        except ValueError as error:
            raise ValueError(f"SLUICE_REDIS_NAMESPACE: {error}") from None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Settings from `SLUICE_POLICY` (paths joined by `:`), `SLUICE_LEDGER`, `SLUICE_REDIS_URL`,
        `SLUICE_REDIS_NAMESPACE`, `SLUICE_REPLICA`, `SLUICE_BACKLOG_MIB`, `SLUICE_HOST`, `SLUICE_PORT`,
        `SLUICE_LOG_LEVEL`, `SLUICE_VIDEOS`, `SLUICE_VIDEOS_MIB`, `SLUICE_VIDEOS_KEEP_H`, `SLUICE_METRICS_BY_TENANT`;
        what is set and empty counts as not set. Raises ValueError naming the variable that is wrong, never with a
        password.
        """
        given = {name: value for name, value in environ.items() if value}
        redis_url = given.get("SLUICE_REDIS_URL")
        return cls(
            policy_paths=policy_paths_of(given),
            ledger=_ledger(given.get("SLUICE_LEDGER", "sluice.sqlite")),
            redis=None if redis_url is None else RedisAddress.from_url(redis_url),
            namespace=given.get("SLUICE_REDIS_NAMESPACE", "sluice"),
            replica=given.get("SLUICE_REPLICA") or unique_name(),
            host=given.get("SLUICE_HOST", "127.0.0.1"),
            port=_number(given, "SLUICE_PORT", 8080, 0, 65_535, "a port"),
            backlog_bytes=_MIB * _number(given, "SLUICE_BACKLOG_MIB", 512, 1, 2**20, "mebibytes"),
            log_level=given.get("SLUICE_LOG_LEVEL", "info"),
            videos=Path(given["SLUICE_VIDEOS"]) if "SLUICE_VIDEOS" in given else None,
            video_bytes=_MIB * _number(given, "SLUICE_VIDEOS_MIB", 2048, 1, 2**20, "mebibytes"),
            video_keep_s=3600.0 * _number(given, "SLUICE_VIDEOS_KEEP_H", 24, 1, 8760, "hours"),
            metrics_by_tenant=_number(given, "SLUICE_METRICS_BY_TENANT", 0, 0, 1000, "a number of tenants"),
        )


def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like those that are read, and are not, each with the one that was likely meant."""
    near = {
        name: difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.85)
        for name in environ
        if name.startswith("SLU") and name not in VARIABLES
    }
    return {name: meant[0] for name, meant in near.items() if meant}


def policy_paths_of(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """What `SLUICE_POLICY` names, joined by `:`; nothing where it is not set."""
    return tuple(Path(text) for text in environ.get("SLUICE_POLICY", "").split(":") if text)


def _ledger(text: str) -> LedgerPlace:
    try:
        return parse_ledger(text)
    except ValueError as error:
        raise ValueError(f"SLUICE_LEDGER: {error}") from None


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int, what: str) -> int:
    text = given.get(name)
    if text is None:
        return default
    if text.startswith("tcp://"):
        raise ValueError(
            f"{name} is {text!r}, which Kubernetes sets for a Service of that name; say enableServiceLinks: false in "
            "the Pod's spec, or call the Service something else"
        )
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise ValueError(f"{name} must be {what} from {least} to {most}, not {text!r}")
    return int(text)
