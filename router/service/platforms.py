"""Which platform runs a policy's pools: a control plane behind a URL, Modal, Kubernetes, several of them, or none."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from policies.policy import Policy
from pools.kubernetes.live import KubernetesPlatform
from pools.kubernetes.settings import POLL_S as KUBERNETES_POLL_S
from pools.modal.declare import SERVER, app_name
from pools.modal.settings import POLL_S as MODAL_POLL_S
from pools.modal.settings import ModalSettings, Watched
from pools.platform import PoolPlatform
from pools.platforms.http import HttpPlatform
from pools.platforms.several import SeveralPlatforms
from pricing.clock import Clock


def platform_of(
    policy: Policy, before: PoolPlatform | None, session: aiohttp.ClientSession, clock: Clock
) -> PoolPlatform | None:
    """The platform of a policy. The one `before` goes on where it only has to hear of changes, and where the policy
    names none any more: requests that began under the old files may still wait for its pools.
    """
    old_kubernetes, old_other = _parts(before)
    kubernetes = _kubernetes(policy, old_kubernetes, session, clock)
    other = _other(policy, old_other, session, clock)
    if kubernetes is None or other is None:
        return kubernetes or other
    if isinstance(before, SeveralPlatforms) and before.kubernetes is kubernetes and before.other is other:
        return before
    return SeveralPlatforms(kubernetes, other)


def _parts(before: PoolPlatform | None) -> tuple[KubernetesPlatform | None, PoolPlatform | None]:
    if isinstance(before, SeveralPlatforms):
        return before.kubernetes, before.other
    return (before, None) if isinstance(before, KubernetesPlatform) else (None, before)


def _kubernetes(
    policy: Policy, before: KubernetesPlatform | None, session: aiohttp.ClientSession, clock: Clock
) -> KubernetesPlatform | None:
    if policy.kubernetes is None:
        return None if _names_one(policy) else before
    if before is not None and before.settings == policy.kubernetes:
        return before
    return KubernetesPlatform(policy.kubernetes, session, clock)


def _other(
    policy: Policy, before: PoolPlatform | None, session: aiohttp.ClientSession, clock: Clock
) -> PoolPlatform | None:
    if policy.platform_url is not None:
        return HttpPlatform(policy.platform_url, session)
    if policy.modal is None:
        return None if _names_one(policy) else before
    from pools.modal.live import ModalPlatform  # the SDK takes a while to import, and few need it

    watched = watched_pools(policy, policy.modal)
    if isinstance(before, ModalPlatform):
        before.configure(watched, policy.modal)
        return before
    return ModalPlatform(watched, policy.modal, clock)


def _names_one(policy: Policy) -> bool:
    return policy.platform_url is not None or policy.modal is not None or policy.kubernetes is not None


def poll_every_s(policy: Policy, at_least_s: float) -> float:
    """Seconds between two looks at the platform."""
    slow_s = 0.0 if policy.modal is None else MODAL_POLL_S
    if policy.kubernetes is not None:
        slow_s = max(slow_s, KUBERNETES_POLL_S)
    return max(at_least_s, slow_s)


def watched_pools(policy: Policy, settings: ModalSettings) -> Mapping[str, Watched]:
    """Pools with an endpoint that are no plain servers, no Deployments, and not billed by the token."""
    elsewhere = () if policy.kubernetes is None else policy.kubernetes.deployments
    return {
        name: Watched(app_name(name, settings), SERVER, policy.pools[name].min_containers, policy.boots_s[name])
        for name, endpoint in policy.endpoints.items()
        if name in policy.pools
        and not endpoint.always_on
        and policy.pools[name].terms is None
        and name not in elsewhere
    }
