"""Questions to a Kubernetes API server over plain HTTP, with a service account's token; its refusals as what to do.

Only four are asked, each of one Deployment: itself, its Pods, its scale, and another scale.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from pools.failures.classify import retry_after_s
from pools.kubernetes.settings import DeploymentRef, KubernetesSettings
from pools.platform import UNREADABLE, PlatformUnavailable
from pricing.clock import US_PER_S, Clock

T = TypeVar("T")

ANSWERED_WITHIN_S: Final = 10.0
"""Real seconds. Nothing waits for it on the way of a request."""

TOKEN_KEPT_S: Final = 60.0
"""How old a token may get that was read from a file: Kubernetes renews it when most of its hour is over."""

QUIET_S: Final = 5.0
"""After a refusal for its rate the API server is left alone, for as long as it asks or else so long."""

QUIET_MOST_S: Final = 120.0

MERGE_PATCH: Final = "application/merge-patch+json"


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Of an object: its version, by which a change can be refused that was made to another."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None


class Labels(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: Mapping[str, str] = {}
    match_expressions: list[Any] = []


class DeploymentSpec(msgspec.Struct, frozen=True):
    selector: Labels


class Deployment(msgspec.Struct, frozen=True):
    spec: DeploymentSpec


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    status: str
    last_transition_time: str | None = None


class PodStatus(msgspec.Struct, frozen=True, rename={"start_time": "startTime", "pod_ip": "podIP"}):
    phase: str = ""
    start_time: str | None = None
    pod_ip: str = ""
    conditions: list[Condition] = []


class Pod(msgspec.Struct, frozen=True):
    metadata: Meta
    status: PodStatus = PodStatus()


class Pods(msgspec.Struct, frozen=True):
    items: list[Pod]


class Replicas(msgspec.Struct, frozen=True):
    replicas: int = 0


class Scale(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: Replicas = Replicas()


class _Status(msgspec.Struct, frozen=True):
    """What a refusal looks like."""

    message: str = ""


class Conflict(PlatformUnavailable):
    """Somebody else changed it in the same moment."""


class KubernetesApi:
    """One API server. Every call raises PlatformUnavailable; the session is its owner's to close."""

    def __init__(
        self, settings: KubernetesSettings, session: aiohttp.ClientSession, clock: Clock, timeout_s: float
    ) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self._timeout_s = timeout_s
        self._tls: ssl.SSLContext | None = None
        self._token: str | None = settings.token
        self._read_us: int | None = None  # monotonic; of the token
        self._quiet_until_us = clock.mono_us()

    async def selector(self, ref: DeploymentRef) -> str:
        """The label selector of a Deployment's Pods, which changes where it is deleted and made anew."""
        found = await self._ask("GET", _deployment(ref), Deployment, ref, "get deployments")
        labels = found.spec.selector
        if labels.match_expressions or not labels.match_labels:
            raise PlatformUnavailable(
                f"Deployment '{ref.name}' in namespace '{ref.namespace}' selects Pods by expressions; give it labels"
            )
        return ",".join(f"{name}={value}" for name, value in sorted(labels.match_labels.items()))

    async def pods(self, ref: DeploymentRef, selector: str) -> list[Pod]:
        path = f"/api/v1/namespaces/{quote(ref.namespace)}/pods?{urlencode({'labelSelector': selector})}"
        return (await self._ask("GET", path, Pods, ref, "list pods")).items

    async def scale(self, ref: DeploymentRef) -> Scale:
        return await self._ask("GET", f"{_deployment(ref)}/scale", Scale, ref, "get deployments/scale")

    async def set_scale(self, ref: DeploymentRef, seen: Scale, replicas: int) -> None:
        """Change a scale that was seen. Raises Conflict where it is not that any more."""
        version = {"resourceVersion": seen.metadata.resource_version}
        body = msgspec.json.encode({"metadata": version, "spec": {"replicas": replicas}})
        await self._ask("PATCH", f"{_deployment(ref)}/scale", Scale, ref, "patch deployments/scale", body)

    async def _ask(
        self, method: str, path: str, type: type[T], ref: DeploymentRef, right: str, body: bytes | None = None
    ) -> T:
        left_us = self._quiet_until_us - self._clock.mono_us()
        if left_us > 0:
            raise PlatformUnavailable(f"the API server has too much to do; asked again in {left_us / US_PER_S:.0f} s")
        status, headers, answer = await self._sent(method, path, body)
        if status == 200:
            try:
                return msgspec.json.decode(answer, type=type)
            except UNREADABLE as error:
                raise PlatformUnavailable(f"{self._settings.url}{path}: the answer cannot be read: {error}") from None
        raise self._refusal(status, headers, _words(answer), ref, right)

    async def _sent(self, method: str, path: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        url = self._settings.url
        headers = {"Authorization": f"Bearer {await self._current_token()}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = MERGE_PATCH
        try:
            async with self._session.request(
                method,
                url + path,
                data=body,
                headers=headers,
                ssl=await self._checked_by(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError:
            raise PlatformUnavailable(f"{url}: no answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientSSLError:
            raise PlatformUnavailable(f"{url}: its certificate is not trusted; check ca_file") from None
        except (aiohttp.ClientError, OSError) as error:
            kind = error.__class__.__name__  # its own text may hold headers
            raise PlatformUnavailable(f"{url}: not reached ({kind}); is the API server's address right?") from None

    def _refusal(
        self, status: int, headers: Mapping[str, str], words: str, ref: DeploymentRef, right: str
    ) -> PlatformUnavailable:
        where = f"Deployment '{ref.name}' in namespace '{ref.namespace}'"
        if status == 401:
            self._read_us = None  # renewed, perhaps
            return PlatformUnavailable("the API server does not know our token; give token or token_file of an account")
        if status == 403:
            return PlatformUnavailable(f"{where}: our account may not {right}; grant it by a Role ({words})")
        if status == 404:
            return PlatformUnavailable(f"there is no {where}; correct platform: kubernetes: deployments:")
        if status == 409:
            return Conflict(f"{where} was changed in the same moment")
        if status == 429:
            pause_s = min(retry_after_s(headers) or QUIET_S, QUIET_MOST_S)
            self._quiet_until_us = self._clock.mono_us() + round(pause_s * US_PER_S)
            return PlatformUnavailable(f"the API server has too much to do; asked again in {pause_s:g} s")
        return PlatformUnavailable(f"{where}: the API server answers with status {status}: {words}")

    async def _current_token(self) -> str:
        """Files are read in a thread: the event loop never touches the disk."""
        if self._settings.token is not None:
            return self._settings.token
        now_us = self._clock.mono_us()
        if self._token is None or self._read_us is None or now_us - self._read_us > TOKEN_KEPT_S * US_PER_S:
            path = self._settings.token_file
            try:
                self._token = (await asyncio.to_thread(path.read_text, "utf-8")).strip()
            except (OSError, UnicodeDecodeError):
                raise PlatformUnavailable(
                    f"{path}: no token can be read there; mount a service account, or give token or token_file"
                ) from None
            self._read_us = now_us
        return self._token

    async def _checked_by(self) -> ssl.SSLContext | bool:
        """What the server's certificate is checked with; plain HTTP has none."""
        path = self._settings.ca_file
        if path is None or not self._settings.url.startswith("https://"):
            return True
        if self._tls is None:
            try:
                self._tls = await asyncio.to_thread(partial(ssl.create_default_context, cafile=path))
            except (OSError, ssl.SSLError):
                raise PlatformUnavailable(f"{path}: no certificate can be read there; correct ca_file") from None
        return self._tls


def _deployment(ref: DeploymentRef) -> str:
    return f"/apis/apps/v1/namespaces/{quote(ref.namespace)}/deployments/{quote(ref.name)}"


def _words(body: bytes) -> str:
    """The API server's own words, if it has any."""
    try:
        return msgspec.json.decode(body, type=_Status).message or "no reason given"
    except UNREADABLE:
        return "no reason given"
