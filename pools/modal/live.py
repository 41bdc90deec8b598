"""Modal's control plane as a `PoolPlatform`: who is alive, and wake one.

A list asks two things: all containers of the Environment with their starts, and, of each pool that has any, which of
them serve. Neither reaches a pool, so that looking wakes none. A container that still waits for a GPU is none yet.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import modal
from modal._utils.async_utils import synchronize_api
from modal.config import config
from modal.exception import AuthError, NotFoundError, ResourceExhaustedError
from modal_proto import api_pb2

from pools.modal.errors import NotDeployed
from pools.modal.leases import Leases
from pools.modal.sdk import FAILED
from pools.modal.settings import LastHour, ModalSettings, Watched
from pools.platform import ContainerInfo, Listed, PlatformUnavailable
from pricing.clock import US_PER_S, Clock

T = TypeVar("T")

LOGGER: Final = logging.getLogger("sluice.modal")
LOOK_S: Final = 5.0
"""How often a boot is looked at."""

ANSWERED_WITHIN_S: Final = 10.0
"""Real seconds. Nothing waits for it on the way of a request."""

ON_MODAL: Final = "MODAL_IS_REMOTE"
"""Modal sets it in containers; `modal.is_local` does not see it in a process that a container has started."""

QUIET_S: Final = (15.0, 120.0)
"""After a refusal for its rate the control plane is left alone for the first, doubled each time, up to the second."""


class ModalPlatform:
    """A `PoolPlatform` of pools that are deployed on Modal. `client` None: the one of the environment's token."""

    def __init__(
        self,
        pools: Mapping[str, Watched],
        settings: ModalSettings,
        clock: Clock,
        client: modal.Client | None = None,
        timeout_s: float = ANSWERED_WITHIN_S,
    ) -> None:
        self._pools = pools
        self._settings = settings
        self._clock = clock
        self._client = client
        self._timeout_s = timeout_s
        self._quiet_until_us = clock.mono_us()
        self._quiet_s = QUIET_S[0]
        self._leases = Leases(pools, self, clock)

    def configure(self, pools: Mapping[str, Watched], settings: ModalSettings) -> None:
        """Files have changed. Leases go on; one of a pool that is gone is taken back with the next list."""
        self._pools = {**self._pools, **pools} if self._leases.held else pools
        self._settings = settings
        self._leases.configure(self._pools)

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """Every pool's containers alive now; wakes are looked after. Raises PlatformUnavailable, with what was listed
        all the same.
        """
        listed, alive, troubles = await self._list()
        await self._look_after_wakes(alive, listed)
        return self._whole(listed, troubles)

    async def look(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """The same, and nothing at Modal is changed by it: neither wakes nor minimums that are not the rows'."""
        listed, _, troubles = await self._list()
        return self._whole(listed, troubles)

    async def _list(self) -> tuple[dict[str, tuple[ContainerInfo, ...]], set[str], list[str]]:
        """(containers by pool, pools that have any, what could not be listed). Raises PlatformUnavailable."""
        started = await self._ask(self._started())
        listed: dict[str, tuple[ContainerInfo, ...]] = {}
        troubles: list[str] = []
        for pool, watched in self._pools.items():
            try:
                listed[pool] = await self._of(pool, started.get(watched.app, {}))
            except PlatformUnavailable as trouble:
                troubles.append(f"{pool}: {trouble}")
        return listed, {pool for pool, each in self._pools.items() if each.app in started}, troubles

    def _whole(
        self, listed: Mapping[str, tuple[ContainerInfo, ...]], troubles: Sequence[str]
    ) -> Mapping[str, tuple[ContainerInfo, ...]]:
        if troubles:
            raise PlatformUnavailable("; ".join(troubles), listed)
        self._quiet_s = QUIET_S[0]
        return listed

    async def _look_after_wakes(self, alive: Collection[str], listed: Listed) -> None:
        """A pool whose list failed is alive, and not known to serve."""
        serving = {pool for pool, infos in listed.items() if any(info.state == "ready" for info in infos)}
        try:
            await self._leases.keep(alive, serving)
        except PlatformUnavailable as trouble:
            LOGGER.warning("wakes not looked after", extra={"fields": {"detail": str(trouble)}})

    async def wake(self, pool: str) -> None:
        """Ask for one container until it serves or the lease ends. Raises PlatformUnavailable."""
        await self._leases.take(pool)

    async def aclose(self) -> None:
        """Take back what is leased."""
        await self._leases.end_all()

    async def last_hour(self, pool: str) -> LastHour:
        """Modal's own counts of a pool, asleep or not. Raises PlatformUnavailable."""
        server = await self._server(pool)
        stats = await self._ask(server.stats.aio())
        return LastHour(
            requests=stats.request_count,
            by_status=dict(stats.request_count_by_status_code),
            containers_started=stats.container_started_count,
            containers_failed=stats.container_error_count,
        )

    async def minimum(self, pool: str) -> int:
        """The `min_containers` that a pool's autoscaler goes by now. Raises PlatformUnavailable."""
        server = await self._server(pool)
        settings = await self._ask(server.autoscaler.settings.aio())
        return settings.min_containers or 0

    async def set_minimum(self, pool: str, containers: int) -> None:
        """Override it, until the next deployment. Raises PlatformUnavailable."""
        server = await self._server(pool)
        await self._ask(server.autoscaler.update.aio(min_containers=containers))

    async def _server(self, pool: str) -> modal.Server:
        watched = self._pools[pool]
        environment, client = self._settings.environment, await self._signed_in()
        return modal.Server.from_name(watched.app, watched.server, environment_name=environment, client=client)

    async def _signed_in(self) -> modal.Client | None:
        """The client of a token even where this process runs on Modal: there the SDK leaves tokens aside and speaks as
        the container, and what a container may ask about other Apps is not documented. Raises PlatformUnavailable.
        """
        token = (config.get("token_id"), config.get("token_secret"))
        if self._client is None and os.environ.get(ON_MODAL) == "1" and all(token):
            self._client = await self._ask(modal.Client.from_credentials.aio(*token))
        return self._client

    async def _started(self) -> dict[str, dict[str, int]]:
        """Starts by App and container, microseconds of wall time; containers that wait for a GPU are left out."""
        client = await self._signed_in() or await modal.Client.from_env.aio()
        apps: dict[str, dict[str, int]] = {}
        for task in await _list_tasks.aio(client, self._settings.environment or ""):
            if task.started_at:
                apps.setdefault(task.app_description, {})[task.task_id] = round(task.started_at * US_PER_S)
        return apps

    async def _of(self, pool: str, started: Mapping[str, int]) -> tuple[ContainerInfo, ...]:
        """Those of one pool; `ready_us` stays open, since the list does not say since when one serves."""
        if not started:
            return ()
        server = await self._server(pool)
        serving = await self._ask(server._experimental_list_containers.aio())
        ready = {container.container_id for container in serving}
        return tuple(
            ContainerInfo(name, "ready" if name in ready else "booting", start_us, None)
            for name, start_us in sorted(started.items())
        )

    async def _ask(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for an answer within the time. Raises PlatformUnavailable, at once after too many questions."""
        left_us = self._quiet_until_us - self._clock.mono_us()
        if left_us > 0:
            call.close()
            raise PlatformUnavailable(f"Modal refused for its rate; it is asked again in {left_us / US_PER_S:.0f} s")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError:
            raise PlatformUnavailable(f"Modal did not answer within {self._timeout_s:g} s") from None
        except ResourceExhaustedError:
            self._quiet_until_us = self._clock.mono_us() + round(self._quiet_s * US_PER_S)
            self._quiet_s = min(2 * self._quiet_s, QUIET_S[1])
            raise PlatformUnavailable("Modal refused for its rate or a limit of the account") from None
        except AuthError:
            raise PlatformUnavailable("Modal knows no token here; set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET") from None
        except NotFoundError as error:
            raise NotDeployed(f"{error}; is the pool deployed? `sluice pools plan` says") from None
        except FAILED as error:
            raise PlatformUnavailable(f"Modal: {str(error) or type(error).__name__}") from None


async def _tasks(client: Any, environment: str) -> list[Any]:
    """All containers of an Environment, as `modal container list` asks for them: the SDK has no public call."""
    response = await client._stub.TaskList(api_pb2.TaskListRequest(environment_name=environment))
    return list(response.tasks)


_list_tasks: Any = synchronize_api(_tasks, __name__)  # type: ignore[no-untyped-call]  # the SDK's own, without types
