"""Answers that a page does not wait for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router.dashboard.inside import PublicApi, Visitor
from router.dashboard.patience import KEPT_AT_MOST, PENDING, Patience
from router.http.exchange import Receive, Scope, Send

PATH = "/v1/reports"
JSON = (b"content-type", b"application/json")
KEY = {"id": "k", "rights": []}
VISITOR = Visitor(((b"authorization", b"Bearer k"),), ("127.0.0.1", 1), "hash of k")


class Slow:
    """An API whose every answer, a number counted from 1, waits until it is let go."""

    def __init__(self) -> None:
        self.answers = 0
        self.status = 200
        self.asked, self.free = asyncio.Event(), asyncio.Event()
        self.now_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.answers += 1
        number = self.answers
        self.asked.set()
        await self.free.wait()
        if self.status == 0:
            raise OSError("a fault")
        body = b'{"error": {"message": "no"}}' if self.status != 200 else b"%d" % number
        await send({"type": "http.response.start", "status": self.status, "headers": [JSON]})
        await send({"type": "http.response.body", "body": body})

    def patience(self, patience_s: float = 30.0) -> Patience:
        return Patience(PublicApi(self), lambda: self.now_s, patience_s)


async def ask(patience: Patience, visitor: Visitor = VISITOR, key: Any = KEY, **query: object) -> Any:
    return (await patience.get(visitor, key, PATH, kept_s=5, **query)).json


async def test_an_answer_serves_all_who_ask_while_it_is_kept() -> None:
    """Also those who ask before it is there; afterwards it is asked for anew."""
    slow = Slow()
    patience = slow.patience()
    one, other = asyncio.create_task(ask(patience)), asyncio.create_task(ask(patience))
    slow.free.set()
    assert (await one, await other) == (1, 1)
    slow.now_s = 4.9
    assert await ask(patience) == 1
    slow.now_s = 5.0
    assert await ask(patience) == 2


async def test_what_took_long_is_kept_for_longer() -> None:
    """Ten times as long as it took: those who look never keep a large ledger busy all the time."""
    slow = Slow()
    patience = slow.patience()
    first = asyncio.create_task(ask(patience))
    await slow.asked.wait()
    slow.now_s = 2.0
    slow.free.set()
    assert await first == 1
    slow.now_s = 19.9
    assert await ask(patience) == 1
    slow.now_s = 20.0
    assert await ask(patience) == 2


async def test_what_belongs_together_is_of_one_time() -> None:
    """All of the answers are there, or all of those before, or none: no day stands beside an older month."""
    slow = Slow()
    patience = slow.patience(patience_s=0)

    async def both() -> list[Any]:
        questions = [(PATH, {"since": since}) for since in ("day", "month")]
        return [answer.json for answer in await patience.together(VISITOR, KEY, questions, kept_s=5)]

    pending = [{"error": {"message": PENDING}}] * 2
    assert await both() == pending
    slow.free.set()
    while (found := await both()) != [1, 2]:
        assert found == pending
        await asyncio.sleep(0)
    slow.now_s = 10.0
    while (found := await both()) != [3, 4]:
        assert found == [1, 2]
        await asyncio.sleep(0)


async def test_a_page_does_not_wait_for_what_takes_long() -> None:
    """It is told so, and gets the answer when it is there; from then on the last one until there is a newer."""
    slow = Slow()
    patience = slow.patience(patience_s=0)
    later = await patience.get(VISITOR, KEY, PATH, kept_s=5)
    assert (later.ok, later.trouble) == (False, PENDING)
    slow.free.set()
    while (found := await ask(patience)) != 1:
        assert found == {"error": {"message": PENDING}}
        await asyncio.sleep(0)
    slow.free.clear()
    slow.now_s = 10.0
    assert await ask(patience) == 1
    slow.free.set()
    while (found := await ask(patience)) != 2:
        assert found == 1
        await asyncio.sleep(0)
    assert slow.answers == 2


async def test_nobody_gets_what_was_answered_to_others() -> None:
    """Another key, other rights of the same key, another machine, a proxy or another question are all asked for."""
    slow = Slow()
    slow.free.set()
    patience = slow.patience()
    seen = [
        await ask(patience),
        await ask(patience, Visitor(((b"authorization", b"Bearer other"),), VISITOR.client, VISITOR.key_hash)),
        await ask(patience, Visitor(VISITOR.headers, VISITOR.client, "hash of another")),
        await ask(patience, key={"id": "k", "rights": ["admin"]}),
        await ask(patience, Visitor(VISITOR.headers, ("192.0.2.1", 1), VISITOR.key_hash)),
        await ask(
            patience, Visitor((*VISITOR.headers, (b"x-forwarded-for", b"192.0.2.1")), VISITOR.client, VISITOR.key_hash)
        ),
        await ask(patience, by="pool"),
    ]
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    browser = Visitor(
        (*VISITOR.headers, (b"user-agent", b"x"), (b"accept", b"*/*")), ("127.0.0.1", 2), VISITOR.key_hash
    )
    assert await ask(patience, browser) == 1


async def test_trouble_is_not_kept() -> None:
    """A refusal or a fault is told once; the next one who asks has another try."""
    slow = Slow()
    slow.free.set()
    patience = slow.patience()
    slow.status = 503
    assert (await patience.get(VISITOR, KEY, PATH, kept_s=5)).trouble == "no"
    slow.status = 0
    with pytest.raises(OSError, match="a fault"):
        await ask(patience)
    slow.status = 200
    assert await ask(patience) == 3


async def test_what_is_kept_is_bounded() -> None:
    """The answers asked for longest ago go first."""
    slow = Slow()
    slow.free.set()
    patience = slow.patience()
    for number in range(KEPT_AT_MOST + 1):
        await ask(patience, number=number)
    assert await ask(patience, number=1) == 2
    assert await ask(patience, number=0) == KEPT_AT_MOST + 2
