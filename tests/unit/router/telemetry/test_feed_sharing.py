"""The feeds of several replicas as one, over a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pricing.ledger.recent import Recent, Tried
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.feed import SharedFeed
from router.telemetry.events import AttemptEnded, RequestEnded
from router.telemetry.feed import Feed, Listener
from router.telemetry.feed_sharing import FeedSharing
from support.real_redis import RedisServer


def one(number: int, tenant: str = "acme") -> Recent:
    return Recent(
        request_id=f"req_{number}",
        at_us=number,
        tenant=tenant,
        key_id=f"{tenant}-key",
        endpoint="/v1/chat/completions",
        request_class="chat",
        tier="standard",
        pool="mid",
        outcome="served",
        status=200,
        error_code=None,
        stream=False,
        duration_us=5,
        prompt_tokens=None,
        completion_tokens=2,
        attempts=(Tried(1, "small", "unavailable"), Tried(2, "mid", "answered")),
        charged_nusd=7,
    )


@dataclass
class Replica:
    feed: Feed
    sharing: FeedSharing
    shared: SharedFeed

    def ends(self, *ended: Recent) -> None:
        """Its own requests end."""
        for each in ended:
            self.feed.emit(AttemptEnded(each.request_id, 1, "small", "L4", "chat", "unavailable", "", 0, 1, None))
            self.feed.emit(
                RequestEnded(
                    request_id=each.request_id,
                    tenant=each.tenant,
                    key_id=each.key_id,
                    endpoint=each.endpoint,
                    request_class=each.request_class,
                    tier=each.tier,
                    pool=each.pool,
                    outcome=each.outcome,
                    status=each.status,
                    error_code=each.error_code,
                    attempts=len(each.attempts),
                    stream=each.stream,
                    duration_us=each.duration_us,
                    ttft_us=None,
                    charge_nusd=each.charged_nusd,
                    prompt_tokens=each.prompt_tokens,
                    completion_tokens=each.completion_tokens,
                    at_us=each.at_us,
                )
            )


class Scene:
    """Replicas of one namespace."""

    def __init__(self, server: RedisServer) -> None:
        self.namespace = uuid.uuid4().hex
        self._server = server
        self._clients: list[RedisClient] = []

    def make(self, name: str, url: str | None = None) -> Replica:
        client = RedisClient(RedisAddress.from_url(url or self._server.url))
        self._clients.append(client)
        feed, shared = Feed(), SharedFeed(client, self.namespace, name)
        return Replica(feed, FeedSharing(feed, shared), shared)

    def command(self, verb: str, name: str, *words: str | bytes) -> object:
        found: object = self._server.command(verb, f"{{{self.namespace}}}:{name}", *words)
        return found

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()


@pytest.fixture
async def scene(redis_server: RedisServer) -> AsyncIterator[Scene]:
    made = Scene(redis_server)
    yield made
    await made.aclose()


async def heard(listener: Listener) -> list[Recent]:
    return await listener.news(0)


async def turns(replica: Replica, count: int = 4) -> None:
    for _ in range(count):
        await replica.sharing.turn()


async def test_who_watches_at_one_replica_hears_of_all(scene: Scene) -> None:
    """Each request whole and once, from when somebody watches on; the watcher's own replica tells at once."""
    here, there = scene.make("here"), scene.make("there")
    with here.feed.listening(None) as listener:
        await turns(here)
        there.ends(one(1))
        await turns(there)
        there.ends(one(2), one(3, "globex"))
        here.ends(one(4))
        assert await heard(listener) == [one(4)]
        await turns(there, 1)
        await turns(here, 2)
        assert await heard(listener) == [one(2), one(3, "globex")]
        await turns(there)
        await turns(here)
        assert await heard(listener) == []


async def test_nobody_watches_and_nothing_is_written(scene: Scene) -> None:
    """Requests leave no trace in Redis, and a replica asks at every fourth turn alone."""
    here = scene.make("here")
    await turns(here, 3)
    here.ends(one(1))
    await turns(here)
    assert not here.shared.watched
    assert scene.command("EXISTS", "feed") == scene.command("EXISTS", "watched") == 0


async def test_a_watcher_begins_with_what_ends_from_then_on(scene: Scene) -> None:
    """Not with what others were told before; and again so after a pause."""
    early, late, busy = scene.make("early"), scene.make("late"), scene.make("busy")
    with early.feed.listening(None):
        await turns(early)
        await turns(busy)
        for number in (1, 2):
            with late.feed.listening(None) as listener:
                busy.ends(one(10 * number))
                await turns(busy, 1)
                await turns(late, 1)
                busy.ends(one(10 * number + 1))
                await turns(busy, 1)
                await turns(late, 1)
                assert await heard(listener) == [one(10 * number + 1)]
            await turns(late, 4)


async def test_watching_ends_by_itself(scene: Scene) -> None:
    """A replica that is gone asks for nothing any more: what it asked for has an end, and so has what was told."""
    here, there = scene.make("here"), scene.make("there")
    with here.feed.listening(None):
        await turns(here)
        await turns(there)
        there.ends(one(1))
        await turns(there, 1)
        for name in ("watched", "feed"):
            left_ms = scene.command("PTTL", name)
            assert isinstance(left_ms, int)
            assert 0 < left_ms <= 60_000
    scene.command("DEL", "watched")
    await turns(there, 1)
    assert not there.shared.watched
    there.ends(one(2))
    assert there.feed.for_others() == []


async def test_what_is_kept_in_redis_is_bounded(scene: Scene) -> None:
    """However long somebody watches, and whatever the traffic."""
    here, there = scene.make("here"), scene.make("there")
    with here.feed.listening(None):
        await turns(here)
        await turns(there)
        for number in range(200):
            there.ends(*(one(number) for _ in range(100)))
            await turns(there, 1)
    assert scene.command("XLEN", "feed") == 128
    newest = scene.command("XREVRANGE", "feed", "+", "-", "COUNT", "1")
    assert isinstance(newest, list)
    assert len(newest[0][1][3]) < 25 * 1000


async def test_what_a_newer_version_tells_is_left_out(scene: Scene) -> None:
    """An entry that cannot be read costs nothing but itself."""
    here, there = scene.make("here"), scene.make("there")
    with here.feed.listening(None) as listener:
        await turns(here)
        await turns(there)
        for words in (b"[{}]", b"\xff", b"{"):
            scene.command("XADD", "feed", "*", "replica", "new", "ended", words)
        there.ends(one(1))
        await turns(there, 1)
        await turns(here, 1)
        assert await heard(listener) == [one(1)]


async def test_without_redis_a_replica_tells_of_itself(scene: Scene) -> None:
    """A turn without a server is no trouble to anybody."""
    alone = scene.make("alone", "redis://127.0.0.1:1")
    with alone.feed.listening(None) as listener:
        await turns(alone)
        alone.ends(one(1))
        assert await heard(listener) == [one(1)]
