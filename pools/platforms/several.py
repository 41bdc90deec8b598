"""Several platforms as one: pools on Kubernetes beside those of another provider."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pools.kubernetes.live import KubernetesPlatform
from pools.platform import ContainerInfo, Listed, PlatformUnavailable, PoolPlatform


class SeveralPlatforms:
    """A `PoolPlatform` in which Kubernetes has the pools that its settings name, and `other` all the rest.

    Where one of them does not answer, what the other says still counts.
    """

    def __init__(self, kubernetes: KubernetesPlatform, other: PoolPlatform) -> None:
        self.kubernetes = kubernetes
        self.other = other

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """Every pool's containers alive now. Raises PlatformUnavailable, with those of the platform that answered."""
        (there, trouble), (here, further) = await asyncio.gather(_asked(self.other), _asked(self.kubernetes))
        ours = self.kubernetes.settings.deployments
        listed = {**{pool: infos for pool, infos in there.items() if pool not in ours}, **here}
        troubles = [str(one) for one in (trouble, further) if one is not None]
        if troubles:
            raise PlatformUnavailable("; ".join(troubles), listed)
        return listed

    async def wake(self, pool: str) -> None:
        """Ask whoever runs the pool. Raises PlatformUnavailable."""
        await (self.kubernetes if pool in self.kubernetes.settings.deployments else self.other).wake(pool)

    async def sleep(self, pool: str) -> None:
        await self.kubernetes.sleep(pool)

    @property
    def sleepers(self) -> frozenset[str]:
        return self.kubernetes.sleepers

    async def aclose(self) -> None:
        await self.kubernetes.aclose()
        await self.other.aclose()


async def _asked(platform: PoolPlatform) -> tuple[Listed, PlatformUnavailable | None]:
    try:
        return await platform.containers(), None
    except PlatformUnavailable as trouble:
        return trouble.listed, trouble
