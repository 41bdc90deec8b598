"""Putting idle pools to sleep where their platform does not: Deployments whose scale is the router's."""

from __future__ import annotations

import logging
from typing import Final

from policies.policy import Policy
from pools.kubernetes.live import KubernetesPlatform
from pools.live.all_pools import LivePools
from pools.platform import PlatformUnavailable, PoolPlatform, Sleeper
from pools.platforms.several import SeveralPlatforms

LOGGER: Final = logging.getLogger("sluice.platform")


async def rest(platform: PoolPlatform, live: LivePools, policy: Policy) -> None:
    """End the last container of each pool that nobody has used for its scale-down window, if it is ours to end."""
    sleeper: Sleeper | None = platform if isinstance(platform, KubernetesPlatform | SeveralPlatforms) else None
    for pool in () if sleeper is None else sorted(sleeper.sleepers & policy.pools.keys()):
        if sleeper is None or not idle_too_long(live, policy, pool):
            continue
        try:
            await sleeper.sleep(pool)
        except PlatformUnavailable as trouble:
            LOGGER.warning("an idle pool goes on", extra={"fields": {"pool": pool, "detail": str(trouble)}})


def idle_too_long(live: LivePools, policy: Policy, pool: str) -> bool:
    """Nobody runs there or waits for it, here or, as far as its engine told, elsewhere; its row keeps none alive."""
    spec, state = policy.pools[pool], live.state(pool)
    if not state.ready or state.company or spec.min_containers or live.lines.waiting([pool]):
        return False
    return state.idle_s is not None and state.idle_s >= spec.scaledown_window_s
