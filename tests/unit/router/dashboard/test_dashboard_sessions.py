"""Sessions of the dashboard."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.sign_ins import SESSIONS_OF_A_KEY, SharedSignIns, SignedIn
from router.dashboard.sessions import KEPT_AT_MOST, LASTS_S, Sessions
from router.inbound.callers import hash_of
from support.real_redis import RedisServer

KEY = hash_of(b"sk-acme-0123456789")


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


# -- of one process ----------------------------------------------------------------------------------------------------


async def test_a_token_stands_for_its_key_until_it_ends() -> None:
    """Twelve hours from when it began, used or not."""
    time = Time()
    sessions = Sessions(time)
    token = await sessions.open(KEY)
    time.now_s += LASTS_S - 1
    assert await sessions.key_of(token) == KEY
    time.now_s += 1
    assert await sessions.key_of(token) is None


async def test_a_closed_session_is_over_and_others_are_not() -> None:
    """Tokens of one key are different, and end one by one."""
    sessions = Sessions(Time())
    one, other = await sessions.open(KEY), await sessions.open(KEY)
    assert one != other
    for token in (one, "unknown", None):
        await sessions.close(token)
    found = [await sessions.key_of(token) for token in (one, other, "unknown", "", None)]
    assert found == [None, KEY, None, None, None]


async def test_there_are_only_so_many() -> None:
    """Then the oldest end."""
    sessions = Sessions(Time())
    first, second = await sessions.open(KEY), await sessions.open(KEY)
    for _ in range(KEPT_AT_MOST - 1):
        await sessions.open(KEY)
    assert [await sessions.key_of(token) for token in (first, second)] == [None, KEY]


# -- of replicas -------------------------------------------------------------------------------------------------------


class Line:
    """Two replicas' way to one Redis, which can be cut."""

    def __init__(self, shared: SharedSignIns) -> None:
        self._shared = shared
        self.cut = False

    @property
    def here(self) -> SharedSignIns:
        if self.cut:
            raise StoreUnavailable("the line is cut")
        return self._shared

    async def begin(self, session: str, key: str, lasts_s: float) -> None:
        await self.here.begin(session, key, lasts_s)

    async def find(self, session: str) -> SignedIn | None:
        return await self.here.find(session)

    async def end(self, session: str) -> None:
        await self.here.end(session)


class Scene:
    """Two replicas' sessions on one real Redis and one clock."""

    def __init__(self, server: RedisServer, namespace: str, client: RedisClient) -> None:
        self._server = server
        self._prefix = f"{{{namespace}}}:"
        self.time = Time()
        self.line = Line(SharedSignIns(client, namespace))
        self.one, self.other = (Sessions(self.time, self.line) for _ in range(2))

    def kept(self, kind: str) -> list[str]:
        """Names of that kind in Redis, behind the kind."""
        names: list[bytes] = self._server.command("KEYS", f"{self._prefix}{kind}:*")
        return sorted(name.decode().rpartition(":")[2] for name in names)

    def command(self, verb: str, name: str, *words: str | int) -> object:
        found: object = self._server.command(verb, self._prefix + name, *words)
        return found


@pytest.fixture
async def scene(redis_server: RedisServer) -> AsyncIterator[Scene]:
    client = RedisClient(RedisAddress.from_url(redis_server.url))
    await client.connect()
    yield Scene(redis_server, uuid.uuid4().hex, client)
    await client.aclose()


async def test_a_session_holds_at_every_replica(scene: Scene) -> None:
    """Whichever it began at; signing out at any of them ends it at all."""
    token = await scene.one.open(KEY)
    assert [await each.key_of(token) for each in (scene.other, scene.one)] == [KEY, KEY]
    await scene.other.close(token)
    assert [await each.key_of(token) for each in (scene.other, scene.one)] == [None, None]


async def test_a_session_ends_everywhere_when_its_time_is_over(scene: Scene) -> None:
    """Redis forgets it by itself, and no replica remembers it for longer than was left when it last asked."""
    token = await scene.one.open(KEY)
    [session] = scene.kept("signed_in")
    left_ms = scene.command("PTTL", f"signed_in:{session}")
    assert isinstance(left_ms, int)
    assert 0 < left_ms <= LASTS_S * 1000
    scene.command("PEXPIRE", f"signed_in:{session}", 3_600_000)
    assert await scene.other.key_of(token) == KEY
    scene.line.cut = True
    scene.time.now_s += 3601
    assert await scene.other.key_of(token) is None
    scene.line.cut = False
    scene.command("DEL", f"signed_in:{session}")
    assert await scene.one.key_of(token) is None


async def test_redis_has_no_token_and_no_key(scene: Scene) -> None:
    """Nothing that is written there opens a session: hashes of a token and of a key are all there is."""
    token = await scene.one.open(KEY)
    [session] = scene.kept("signed_in")
    assert token not in session
    assert scene.command("GET", f"signed_in:{session}") == KEY.encode()
    assert scene.kept("sessions_of") == [KEY]
    assert await scene.other.key_of(session) is None


async def test_while_redis_is_away_replicas_go_by_what_they_have_seen(scene: Scene) -> None:
    """A session goes on where it was used before; one that nobody else has seen is the replica's own."""
    seen = await scene.one.open(KEY)
    assert await scene.other.key_of(seen) == KEY
    unseen = await scene.one.open(KEY)
    scene.line.cut = True
    found = [await each.key_of(token) for token in (seen, unseen) for each in (scene.one, scene.other)]
    assert found == [KEY, KEY, KEY, None]


async def test_who_signed_in_during_an_outage_is_signed_in_everywhere_after_it(scene: Scene) -> None:
    """Once the session is used where it began."""
    scene.line.cut = True
    token = await scene.one.open(KEY)
    scene.time.now_s += 60
    assert [await each.key_of(token) for each in (scene.one, scene.other)] == [KEY, None]
    scene.line.cut = False
    assert [await each.key_of(token) for each in (scene.one, scene.other)] == [KEY, KEY]
    left_ms = scene.command("PTTL", f"signed_in:{scene.kept('signed_in')[0]}")
    assert isinstance(left_ms, int)
    assert left_ms <= (LASTS_S - 60) * 1000


async def test_a_sign_out_that_cannot_be_told_says_so(scene: Scene) -> None:
    """It holds here at once; that it does not elsewhere is an error, not a silence."""
    token = await scene.one.open(KEY)
    scene.line.cut = True
    with pytest.raises(StoreUnavailable):
        await scene.one.close(token)
    assert await scene.one.key_of(token) is None


async def test_what_was_just_asked_need_not_be_asked_again(scene: Scene) -> None:
    """Where one looks again and again, a sign-out elsewhere counts as soon as what is known is too old."""
    token = await scene.one.open(KEY)
    await scene.other.close(token)
    scene.time.now_s += 1.5
    assert await scene.one.key_of(token, at_most_old_s=2.0) == KEY
    scene.time.now_s += 1.0
    assert await scene.one.key_of(token, at_most_old_s=2.0) is None


async def test_a_key_has_only_so_many_sessions(scene: Scene) -> None:
    """Its oldest end, and no other key's: whoever has a key fills no Redis and signs nobody else out."""
    other_key = hash_of(b"sk-globex-0123456789")
    other, first = await scene.one.open(other_key), await scene.one.open(KEY)
    tokens = [await scene.one.open(KEY) for _ in range(SESSIONS_OF_A_KEY)]
    assert len(scene.kept("signed_in")) == SESSIONS_OF_A_KEY + 1
    found = [await scene.other.key_of(token) for token in (other, first, tokens[0], tokens[-1])]
    assert found == [other_key, None, KEY, KEY]
