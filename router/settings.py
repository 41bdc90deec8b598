"""What the process is told from outside, read once from the environment and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """`policy_paths` are files or folders; an empty tuple means the shipped default policy.

    `max_body_bytes` bounds a request's body; `grace_s` is how long a stop waits for running requests.
    """

    policy_paths: tuple[Path, ...] = ()
    ledger: Path = Path("sluice.sqlite")
    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 20 * 1024 * 1024
    grace_s: float = 30.0
    platform_poll_s: float = 2.0
    house_flush_s: float = 10.0
    log_level: str = "info"
    assume_deployed: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Settings from `SLUICE_POLICY` (paths joined by `:`), `SLUICE_LEDGER`, `SLUICE_HOST`, `SLUICE_PORT`,
        `SLUICE_LOG_LEVEL`. Raises ValueError naming the variable that is wrong.
        """
        paths = tuple(Path(text) for text in environ.get("SLUICE_POLICY", "").split(":") if text)
        port = environ.get("SLUICE_PORT", "8080")
        if not port.isdigit() or not 0 <= int(port) < 65536:
            raise ValueError(f"SLUICE_PORT must be a port from 0 to 65535, not {port!r}")
        return cls(
            policy_paths=paths,
            ledger=Path(environ.get("SLUICE_LEDGER", "sluice.sqlite")),
            host=environ.get("SLUICE_HOST", "127.0.0.1"),
            port=int(port),
            log_level=environ.get("SLUICE_LOG_LEVEL", "info"),
        )
