"""Who has signed in: a random token in a cookie, and the API key that it stands for in this process's memory.

The browser never keeps the key: a cookie that leaks shows a dashboard for some hours and cannot run a model. Tokens are
kept by their hash, so that nothing here can be used as one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

LASTS_S: Final = 12 * 3600
KEPT_AT_MOST: Final = 10_000  # then the oldest end


class Sessions:
    """`now_s` is a monotonic clock in real seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._open: dict[str, tuple[str, float]] = {}  # by hash of the token: the key, and when it ends

    def open(self, key: str) -> str:
        """A new session's token."""
        self._drop_ended()
        while len(self._open) >= KEPT_AT_MOST:
            del self._open[next(iter(self._open))]
        token = secrets.token_urlsafe(32)
        self._open[_hashed(token)] = (key, self._now_s() + LASTS_S)
        return token

    def key_of(self, token: str | None) -> str | None:
        """The key that a token stands for; None for one that is unknown or has ended."""
        key, ends_s = self._open.get(_hashed(token or ""), (None, 0.0))
        return key if ends_s > self._now_s() else None

    def close(self, token: str | None) -> None:
        """End a session, wherever its token still is."""
        self._open.pop(_hashed(token or ""), None)

    def _drop_ended(self) -> None:
        """Sessions last equally long, so that those that have ended are the first."""
        now_s = self._now_s()
        while self._open and next(iter(self._open.values()))[1] <= now_s:
            del self._open[next(iter(self._open))]


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
