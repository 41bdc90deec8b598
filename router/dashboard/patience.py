"""Answers that may take long, asked for so that no page waits for them: adding a large ledger up takes seconds.

An answer is kept for a while. What is not there in time goes on being asked for, and the page says so; the next look at
it finds the answer, or the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from router.dashboard.inside import Answer, PublicApi, Visitor

PATIENCE_S: Final = 0.4  # of a page, which is to be seen within a second
KEPT_AT_MOST: Final = 200
PENDING: Final = "Being added up. It appears here by itself."
_LATER: Final = Answer(202, {"error": {"message": PENDING}})
_OF_THE_BROWSER: Final = (
    b"accept",
    b"cache-control",
    b"pragma",
    b"priority",
    b"referer",
    b"sec-",
    b"upgrade-",
    b"user-agent",
)

Name = tuple[Any, ...]


@dataclass(slots=True)
class _Asked:
    task: asyncio.Task[Answer]
    asked_s: float
    last: Answer | None  # the one before


class Patience:
    """`now_s` is a monotonic clock in real seconds; a page waits `patience_s` for an answer."""

    def __init__(self, api: PublicApi, now_s: Callable[[], float], patience_s: float = PATIENCE_S) -> None:
        self._api = api
        self._now_s = now_s
        self._patience_s = patience_s
        self._asked: dict[Name, _Asked] = {}

    async def get(
        self, visitor: Visitor, key: Mapping[str, Any], path: str, *, kept_s: float, **query: object
    ) -> Answer:
        """The answer to a question that was asked at most `kept_s` ago, or the last one, or that there is none yet.

        `key` is what `/v1/key` says of the visitor now: nobody is shown what was answered to other rights.
        """
        name = (*_identity(visitor), repr(key), path, *query.items())
        asked = self._asked.pop(name, None)
        if asked is None or (asked.task.done() and asked.asked_s + kept_s <= self._now_s()):
            last = asked.task.result() if asked is not None else None
            asked = _Asked(asyncio.create_task(self._api.get(visitor, path, **query)), self._now_s(), last)
        self._asked[name] = asked
        if len(self._asked) > KEPT_AT_MOST:
            self._drop_oldest()
        done, _ = await asyncio.wait({asked.task}, timeout=self._patience_s)
        if not done:
            return _LATER if asked.last is None else asked.last
        if asked.task.exception() is not None or not asked.task.result().ok:
            self._asked.pop(name, None)  # nobody is to be told of a trouble that has passed
        return asked.task.result()

    def _drop_oldest(self) -> None:
        oldest = next((name for name, asked in self._asked.items() if asked.task.done()), None)
        if oldest is not None:
            del self._asked[oldest]


def _identity(visitor: Visitor) -> Name:
    """All that the API may go by; what only says which browser it is would ask the same question twice."""
    headers = tuple(pair for pair in visitor.headers if not pair[0].startswith(_OF_THE_BROWSER))
    return headers, visitor.key_hash, visitor.client[0] if visitor.client else None
