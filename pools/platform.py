"""What the router asks of the platform that runs containers: who is alive, and wake one.

The control plane is slow and costs nothing; the data plane of a sleeping pool is never touched to look at it, since
a probe would wake it and bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

import msgspec

from pricing.errors import SluiceError

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a control plane's answer raises where it is no JSON, not UTF-8, or too deep."""


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """One container alive. Instants are microseconds since the epoch. `address`, a URL, is where this container and no
    other tells its metrics; None where the platform gives containers none.
    """

    id: str
    state: Literal["booting", "ready"]
    started_us: int
    ready_us: int | None
    address: str | None = None


Listed = Mapping[str, tuple[ContainerInfo, ...]]


class PlatformUnavailable(SluiceError):
    """The control plane did not answer; what was last known stays in force.

    `listed` is what it said of other pools all the same, none of which were asked after in vain.
    """

    def __init__(self, message: str, listed: Listed = MappingProxyType({})) -> None:
        super().__init__(message)
        self.listed = listed


class PoolPlatform(Protocol):
    """The control plane of one provider."""

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """Every pool's containers alive now. Raises PlatformUnavailable."""
        ...

    async def wake(self, pool: str) -> None:
        """Ask for one container of a pool that has none; returns when asked, not when it is up."""
        ...

    async def aclose(self) -> None: ...


class Sleeper(Protocol):
    """A platform that does not put idle pools to sleep by itself, so that the router has to."""

    @property
    def sleepers(self) -> frozenset[str]:
        """The pools that are the router's to put to sleep."""
        ...

    async def sleep(self, pool: str) -> None:
        """End a pool's last container. Raises PlatformUnavailable."""
        ...
