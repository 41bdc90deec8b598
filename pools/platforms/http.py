"""A platform's control plane over HTTP: `GET /platform/containers` and `POST /platform/pools/<name>/wake`.

The simulated pools speak it, and so can a small adapter beside any other provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from pools.platform import UNREADABLE, ContainerInfo, PlatformUnavailable

ANSWERED_WITHIN_S = 5.0  # real seconds; a control plane is slow, and nothing waits for it on the way of a request
_decode = msgspec.json.Decoder(dict[str, tuple[ContainerInfo, ...]]).decode


class HttpPlatform:
    """A `PoolPlatform` behind a base URL. A session that is handed in stays its owner's to close."""

    def __init__(
        self, base_url: str, session: aiohttp.ClientSession | None = None, timeout_s: float = ANSWERED_WITHIN_S
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._session = session
        self._owned: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        """Every pool's containers alive now. Raises PlatformUnavailable."""
        body = await self._call("GET", "/platform/containers")
        try:
            return _decode(body)
        except UNREADABLE as error:
            raise PlatformUnavailable(f"{self._base_url}: the list of containers cannot be read: {error}") from None

    async def wake(self, pool: str) -> None:
        """Ask for one container of a pool that has none; returns when asked. Raises PlatformUnavailable."""
        await self._call("POST", f"/platform/pools/{quote(pool, safe='')}/wake")

    async def aclose(self) -> None:
        if self._owned is not None:
            await self._owned.close()
            self._owned = None

    async def _call(self, method: str, path: str) -> bytes:
        url = self._base_url + path
        try:
            async with self._client().request(method, url, timeout=self._timeout, allow_redirects=False) as response:
                body = await response.read()
        except TimeoutError:
            raise PlatformUnavailable(f"{url}: no answer within {self._timeout.total} s") from None
        except aiohttp.ClientError as error:
            raise PlatformUnavailable(f"{url}: {error}; is the platform's address right?") from None
        if response.status != 200:
            raise PlatformUnavailable(f"{url}: status {response.status}: {_reason(body)}")
        return body

    def _client(self) -> aiohttp.ClientSession:
        if self._session is not None:
            return self._session
        if self._owned is None:
            self._owned = aiohttp.ClientSession()
        return self._owned


def _reason(body: bytes) -> str:
    """The platform's own words, if it has any."""
    try:
        data: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return "no reason given"
    return str(data.get("error", "no reason given")) if isinstance(data, dict) else "no reason given"
