"""Which platform runs a policy's pools: a control plane behind a URL, Modal, or none."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from policies.policy import Policy
from pools.modal.declare import SERVER, app_name
from pools.modal.settings import POLL_S, ModalSettings, Watched
from pools.platform import PoolPlatform
from pools.platform_http import HttpPlatform
from pricing.clock import Clock


def platform_of(
    policy: Policy, before: PoolPlatform | None, session: aiohttp.ClientSession, clock: Clock
) -> PoolPlatform | None:
    """The platform of a policy. The one `before` goes on where it only has to hear of changes, and where the policy
    names none any more: requests that began under the old files may still wait for its pools.
    """
    if policy.platform_url is not None:
        return HttpPlatform(policy.platform_url, session)
    if policy.modal is None:
        return before
    from pools.modal.live import ModalPlatform  # the SDK takes a while to import, and few need it

    watched = watched_pools(policy, policy.modal)
    if isinstance(before, ModalPlatform):
        before.configure(watched, policy.modal)
        return before
    return ModalPlatform(watched, policy.modal, clock)


def poll_every_s(policy: Policy, at_least_s: float) -> float:
    """Seconds between two looks at the platform."""
    return at_least_s if policy.modal is None else max(at_least_s, POLL_S)


def watched_pools(policy: Policy, settings: ModalSettings) -> Mapping[str, Watched]:
    """Pools with an endpoint that are no plain servers."""
    return {
        name: Watched(app_name(name, settings), SERVER, policy.pools[name].min_containers, policy.boots_s[name])
        for name, endpoint in policy.endpoints.items()
        if not endpoint.always_on and name in policy.pools
    }
