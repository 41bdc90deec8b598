"""Answers that may take long, asked for so that no page waits for them: adding a large ledger up takes seconds.

An answer is kept for a while, the longer the longer it took. What is not there in time goes on being asked for, and the
page says so; the next look at it finds the answer, or the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.dashboard.inside import Answer, PublicApi, Visitor

PATIENCE_S: Final = 0.4  # of a page, which is to be seen within a second
KEPT_TIMES_TOOK: Final = 10  # so that adding up for those who look takes a tenth of the time at most
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
Question = tuple[str, Mapping[str, object]]
"""A path and its query."""


@dataclass(frozen=True, slots=True)
class _Told:
    answers: Sequence[Answer]
    took_s: float

    @property
    def ok(self) -> bool:
        return all(answer.ok for answer in self.answers)


@dataclass(slots=True)
class _Asked:
    task: asyncio.Task[_Told]
    asked_s: float
    last: _Told | None  # what was answered before

    def is_old(self, now_s: float, kept_s: float) -> bool:
        if not self.task.done():
            return False
        return self.asked_s + max(kept_s, KEPT_TIMES_TOOK * self.task.result().took_s) <= now_s


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
        """The answer to one question, as `together` gives it."""
        [answer] = await self.together(visitor, key, [(path, query)], kept_s=kept_s)
        return answer

    async def together(
        self, visitor: Visitor, key: Mapping[str, Any], questions: Sequence[Question], *, kept_s: float
    ) -> Sequence[Answer]:
        """Answers that are compared with each other: all were asked for at one time, at most `kept_s` ago or ten times
        as long as they took, or are the ones before, or say that there are none yet.

        `key` is what `/v1/key` says of the visitor now: nobody is shown what was answered to other rights.
        """
        name = (*_identity(visitor), repr(key), *((path, *query.items()) for path, query in questions))
        asked = self._asked.pop(name, None)
        if asked is None or asked.is_old(self._now_s(), kept_s):
            last = asked.task.result() if asked is not None else None
            asked = _Asked(asyncio.create_task(self._ask(visitor, questions)), self._now_s(), last)
        self._asked[name] = asked
        if len(self._asked) > KEPT_AT_MOST:
            self._drop_oldest()
        done, _ = await asyncio.wait({asked.task}, timeout=self._patience_s)
        if not done:
            return [_LATER] * len(questions) if asked.last is None else asked.last.answers
        if asked.task.exception() is not None or not asked.task.result().ok:
            self._asked.pop(name, None)  # nobody is to be told of a trouble that has passed
        return asked.task.result().answers

    async def _ask(self, visitor: Visitor, questions: Sequence[Question]) -> _Told:
        begun_s = self._now_s()
        answers = await asyncio.gather(*(self._api.get(visitor, path, **query) for path, query in questions))
        return _Told(answers, self._now_s() - begun_s)

    def _drop_oldest(self) -> None:
        oldest = next((name for name, asked in self._asked.items() if asked.task.done()), None)
        if oldest is not None:
            del self._asked[oldest]


def _identity(visitor: Visitor) -> Name:
    """All that the API may go by; what only says which browser it is would ask the same question twice."""
    headers = tuple(pair for pair in visitor.headers if not pair[0].startswith(_OF_THE_BROWSER))
    return headers, visitor.key_hash, visitor.client[0] if visitor.client else None
