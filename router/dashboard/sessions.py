"""Who has signed in: a random token in a cookie, which stands for an API key.

The browser never keeps the key, and neither do we: a session knows the key's hash, which the policy has too. A cookie
that leaks shows a dashboard for some hours and cannot run a model. Tokens are kept by their hash as well, so that
nothing here can be used as one.

With replicas, sessions lie in what these share and hold at each of them; what this replica has seen of them is kept in
memory for when that cannot be reached, since a dashboard is looked at most when something is down.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from pricing.errors import StoreUnavailable
from pricing.redis.sign_ins import SignedIn

LASTS_S: Final = 12 * 3600
KEPT_AT_MOST: Final = 10_000  # then those that began, or were first seen, before all others go


class SharedSessions(Protocol):
    """Sessions by the hash of their token. Every method raises StoreUnavailable."""

    async def begin(self, session: str, key: str, lasts_s: float) -> None: ...

    async def find(self, session: str) -> SignedIn | None: ...

    async def end(self, session: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """A session as this process knows it; times are those of `now_s`. `shared`: the other replicas know it too."""

    key: str
    ends_s: float
    asked_s: float
    shared: bool


class Sessions:
    """`now_s` is a monotonic clock in real seconds; `shared` None means that there are no other replicas."""

    def __init__(self, now_s: Callable[[], float], shared: SharedSessions | None = None) -> None:
        self._now_s = now_s
        self._shared = shared
        self._seen: dict[str, _Seen] = {}  # by hash of the token, oldest first

    async def open(self, key_hash: str) -> str:
        """A new session's token. Where the other replicas cannot be told now, they are when it is next used."""
        token, now_s = secrets.token_urlsafe(32), self._now_s()
        session = _hashed(token)
        self._keep(
            session, _Seen(key_hash, now_s + LASTS_S, now_s, shared=await self._told(session, key_hash, LASTS_S))
        )
        return token

    async def key_of(self, token: str | None, at_most_old_s: float = 0.0) -> str | None:
        """The hash of the key that a token stands for; None for one that is unknown or has ended.

        `at_most_old_s`: what was known so long ago will do.
        """
        session, now_s = _hashed(token or ""), self._now_s()
        seen = self._seen.get(session)
        if seen is not None and seen.ends_s <= now_s:
            del self._seen[session]
            return None
        if self._shared is None or token is None or (seen is not None and now_s < seen.asked_s + at_most_old_s):
            return None if seen is None else seen.key
        if seen is not None and not seen.shared:
            told = await self._told(session, seen.key, seen.ends_s - now_s)
            self._keep(session, replace(seen, asked_s=now_s, shared=told))
            return seen.key
        return await self._look(self._shared, session, seen)

    async def close(self, token: str | None) -> None:
        """End a session, wherever its token still is. Raises StoreUnavailable where other replicas cannot be told."""
        if token is None:
            return
        session = _hashed(token)
        self._seen.pop(session, None)
        if self._shared is not None:
            await self._shared.end(session)

    async def _look(self, shared: SharedSessions, session: str, seen: _Seen | None) -> str | None:
        now_s = self._now_s()
        try:
            found = await shared.find(session)
        except StoreUnavailable:
            return None if seen is None else seen.key
        if found is None:
            self._seen.pop(session, None)
            return None
        self._keep(session, _Seen(found.key, now_s + found.left_s, now_s, shared=True))
        return found.key

    async def _told(self, session: str, key_hash: str, lasts_s: float) -> bool:
        if self._shared is not None:
            with suppress(StoreUnavailable):
                await self._shared.begin(session, key_hash, lasts_s)
                return True
        return False

    def _keep(self, session: str, seen: _Seen) -> None:
        while len(self._seen) >= KEPT_AT_MOST and session not in self._seen:
            del self._seen[next(iter(self._seen))]
        self._seen[session] = seen


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
