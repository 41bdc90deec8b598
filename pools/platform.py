"""What the router asks of the platform that runs containers: who is alive, and wake one.

The control plane is slow and costs nothing; the data plane of a sleeping pool is never touched to look at it, since
a probe would wake it and bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pricing.errors import SluiceError


class PlatformUnavailable(SluiceError):
    """The control plane did not answer; what was last known stays in force."""


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """One container alive. Instants are microseconds since the epoch."""

    id: str
    state: Literal["booting", "ready"]
    started_us: int
    ready_us: int | None


class PoolPlatform(Protocol):
    """The control plane of one provider."""

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """Every pool's containers alive now. Raises PlatformUnavailable."""
        ...

    async def wake(self, pool: str) -> None:
        """Ask for one container of a pool that has none; returns when asked, not when it is up."""
        ...

    async def aclose(self) -> None: ...
