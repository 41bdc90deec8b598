"""Deployments of Kubernetes as a `PoolPlatform`: their Pods are the pool's containers.

A Pod is alive from the instant at which its node took it, since then it holds its GPU: one that waits for a node is
none yet, and one that was told to end is none any more. It serves once it is ready. A Service in front of the
Deployment sends requests to ready Pods only, so that its readiness probe is what decides.

With `scale_to_zero` the router scales 0 to 1 when somebody wants the pool, and back to 0 when nobody did for its
scale-down window; beyond one Pod, and without that key at all, the scale is others' business: an autoscaler's, or ops'.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import aiohttp

from pools.kubernetes.api import ANSWERED_WITHIN_S, Conflict, KubernetesApi, Pod
from pools.kubernetes.settings import DeploymentRef, KubernetesSettings
from pools.platform import ContainerInfo, PlatformUnavailable
from pricing.clock import US_PER_S, Clock

SELECTOR_KEPT_S: Final = 60.0
"""How long a Deployment's selector is believed: it never changes, but a Deployment may be made anew with another."""

TRIES: Final = 2  # of a change that met another one
ENDED: Final = frozenset({"Succeeded", "Failed"})


class KubernetesPlatform:
    """A `PoolPlatform` of the Deployments that the settings name."""

    def __init__(
        self,
        settings: KubernetesSettings,
        session: aiohttp.ClientSession,
        clock: Clock,
        timeout_s: float = ANSWERED_WITHIN_S,
    ) -> None:
        self.settings = settings
        self._api = KubernetesApi(settings, session, clock, timeout_s)
        self._clock = clock
        self._selectors: dict[DeploymentRef, tuple[str, int]] = {}  # with the monotonic instant it was read at

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """Every pool's Pods alive now. Raises PlatformUnavailable, with those that could be asked after."""
        listed: dict[str, tuple[ContainerInfo, ...]] = {}
        troubles: dict[str, None] = {}  # each once, in order
        for pool, ref in self.settings.deployments.items():
            try:
                listed[pool] = await self._of(ref)
            except PlatformUnavailable as trouble:
                troubles[str(trouble)] = None
        if troubles:
            raise PlatformUnavailable("; ".join(troubles), listed)
        return listed

    async def wake(self, pool: str) -> None:
        """Scale a Deployment from 0 to 1; one that has Pods is left alone. Raises PlatformUnavailable."""
        ref = self.settings.deployments.get(pool)
        if ref is None:
            raise PlatformUnavailable(f"pool '{pool}' is no Deployment of this policy (platform: kubernetes:)")
        if not ref.scale_to_zero:
            raise PlatformUnavailable(
                f"pool '{pool}' has no Pod and its scale is left to others; scale Deployment '{ref.name}' up, or set"
                " scale_to_zero: true"
            )
        await self._scale(ref, 0, 1)

    async def sleep(self, pool: str) -> None:
        """Scale a Deployment to 0 where the router may. Raises PlatformUnavailable."""
        ref = self.settings.deployments.get(pool)
        if ref is not None and ref.scale_to_zero:
            await self._scale(ref, 1, 0)

    @property
    def sleepers(self) -> frozenset[str]:
        """Pools that are the router's to put to sleep."""
        return frozenset(pool for pool, ref in self.settings.deployments.items() if ref.scale_to_zero)

    async def aclose(self) -> None:
        """Nothing to close: the session belongs to whoever made it."""

    async def _scale(self, ref: DeploymentRef, at: int, replicas: int) -> None:
        """From `at` to `replicas`, and from nothing else: what somebody else has scaled is theirs."""
        for left in reversed(range(TRIES)):
            seen = await self._api.scale(ref)
            if seen.spec.replicas != at:
                return
            try:
                await self._api.set_scale(ref, seen, replicas)
                return
            except Conflict:
                if not left:
                    raise

    async def _of(self, ref: DeploymentRef) -> tuple[ContainerInfo, ...]:
        pods = await self._api.pods(ref, await self._selector(ref))
        try:
            infos = [_info(pod, ref.metrics_port) for pod in pods]
        except ValueError as error:
            raise PlatformUnavailable(f"Deployment '{ref.name}': a Pod's time cannot be read: {error}") from None
        return tuple(sorted((info for info in infos if info is not None), key=lambda info: info.id))

    async def _selector(self, ref: DeploymentRef) -> str:
        now_us = self._clock.mono_us()
        selector, read_us = self._selectors.get(ref, ("", now_us))
        if not selector or now_us - read_us > SELECTOR_KEPT_S * US_PER_S:
            selector = await self._api.selector(ref)
            self._selectors[ref] = selector, now_us
        return selector


def _info(pod: Pod, metrics_port: int | None) -> ContainerInfo | None:
    """A Pod as a container; None for one that has no GPU, not yet or no more. Raises ValueError."""
    status = pod.status
    if status.start_time is None or status.phase in ENDED or pod.metadata.deletion_timestamp is not None:
        return None
    started_us = _us(status.start_time)
    ready = next((one for one in status.conditions if one.type == "Ready" and one.status == "True"), None)
    if ready is None:
        return ContainerInfo(pod.metadata.uid, "booting", started_us, None)
    since_us = None if ready.last_transition_time is None else max(started_us, _us(ready.last_transition_time))
    return ContainerInfo(pod.metadata.uid, "ready", started_us, since_us, _address(status.pod_ip, metrics_port))


def _address(ip: str, port: int | None) -> str | None:
    if not ip or port is None:
        return None
    return f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}"


def _us(text: str) -> int:
    """An RFC 3339 instant as microseconds of wall time. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"'{text}' has no time zone")
    return round(instant.timestamp() * US_PER_S)
