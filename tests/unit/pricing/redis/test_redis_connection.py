"""One connection to Redis, against bytes that a test writes: order, splits, errors, silence, limits."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.connection import Connection
from pricing.redis.replies import RedisReplyError


class Wire(asyncio.Transport):
    """Where a connection writes to: keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Peer:
    """A connection with its wire and the reasons that it gave for its end."""

    def __init__(self, timeout_s: float = 60.0, in_flight_bytes: int = 1_000_000) -> None:
        self.wire = Wire()
        self.ends: list[str] = []
        lost = lambda _, reason: self.ends.append(reason)  # noqa: E731
        self.connection = Connection(RedisAddress(), timeout_s, in_flight_bytes, lost)
        self.connection.connection_made(self.wire)

    def says(self, data: bytes) -> None:
        self.connection.data_received(data)


class Failed(str):
    """An error reply, in replies that a test makes up."""


def encoded(reply: Any) -> bytes:
    """A reply as RESP2 has it on the wire."""
    match reply:
        case Failed():
            return b"-%s\r\n" % reply.encode()
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case _:
            return b"*%d\r\n%s" % (len(reply), b"".join(map(encoded, reply)))


def first_error(reply: Any) -> Failed | None:
    if isinstance(reply, list):
        return next((found for part in reply if (found := first_error(part)) is not None), None)
    return reply if isinstance(reply, Failed) else None


words = st.sampled_from(["ERR no such thing", "WRONGTYPE Operation", "NOSCRIPT No matching script.", "X"])
leaves = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), words.map(Failed))
replies = st.lists(st.recursive(leaves, lambda part: st.lists(part, max_size=4), max_leaves=8), min_size=1, max_size=8)


@given(replies, st.lists(st.integers(0, 10_000)), st.sets(st.integers(0, 7)))
def test_every_caller_gets_its_own_reply_however_the_bytes_are_cut(
    sent: list[Any], cuts: list[int], cancelled: set[int]
) -> None:
    """Replies reach their callers in order, split at any bytes, errors raised, and past callers who went away."""

    async def exchange() -> None:
        peer = Peer()
        futures = [peer.connection.send("PING") for _ in sent]
        for index in cancelled & set(range(len(sent))):
            futures[index].cancel()
        data = b"".join(map(encoded, sent))
        ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        for begin, end in itertools.pairwise(ends):
            peer.says(data[begin:end])
        for index, (future, reply) in enumerate(zip(futures, sent, strict=True)):
            if index in cancelled:
                assert future.cancelled()
            elif (error := first_error(reply)) is not None:
                assert str(future.exception()) == error
            else:
                assert future.result() == reply
        assert peer.ends == []

    asyncio.run(exchange())


async def test_what_one_turn_of_the_loop_sends_leaves_as_one_write() -> None:
    """Three commands of one turn are one write; one of the next turn is another."""
    peer = Peer()
    for number in range(3):
        peer.connection.send("GET", number)
    assert peer.wire.writes == []
    await asyncio.sleep(0)
    peer.connection.send("PING")
    await asyncio.sleep(0)
    get = b"*2\r\n$3\r\nGET\r\n$1\r\n%d\r\n"
    assert peer.wire.writes == [b"".join(get % number for number in range(3)), b"*1\r\n$4\r\nPING\r\n"]


async def test_an_error_reply_is_raised_with_its_code() -> None:
    """An error is never a value: not at the top, not inside of a list."""
    peer = Peer()
    top, nested, after = (peer.connection.send("EVAL", "", 0) for _ in range(3))
    peer.says(b"-WRONGTYPE Operation\r\n*2\r\n:1\r\n*1\r\n-MINE deep inside\r\n+fine\r\n")
    with pytest.raises(RedisReplyError) as error:
        await top
    assert (error.value.code, error.value.text) == ("WRONGTYPE", "Operation")
    with pytest.raises(RedisReplyError, match="MINE deep inside"):
        await nested
    assert await after == b"fine"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"-ERR max number of clients reached\r\n", "it refuses the connection (ERR max number of clients reached)"),
        (b"+surprise\r\n", "it sent a reply that nobody had asked for"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak Redis's protocol"),
    ],
)
async def test_what_nobody_asked_for_ends_the_connection_and_says_why(data: bytes, reason: str) -> None:
    """A reply without a caller would shift all that follow, so the connection ends with it."""
    peer = Peer()
    peer.says(data)
    assert peer.wire.aborted
    assert [reason in end for end in peer.ends] == [True]
    with pytest.raises(StoreUnavailable, match="has ended"):
        peer.connection.send("PING")


async def test_a_lost_connection_says_that_the_outcome_is_unknown() -> None:
    """Who waits for a reply when the connection breaks hears that the step may have been done."""
    peer = Peer()
    futures = [peer.connection.send("INCR", "n") for _ in range(2)]
    peer.says(b":1\r\n")
    peer.connection.connection_lost(ConnectionResetError("reset by peer"))
    assert await futures[0] == 1
    with pytest.raises(StoreUnavailable, match=r"reset by peer.*; whether the step was done is not known"):
        await futures[1]
    assert len(peer.ends) == 1


async def test_silence_ends_the_connection() -> None:
    """A reply that does not come within the limit fails all who wait, and drops the connection."""
    peer = Peer(timeout_s=0.01)
    futures = [peer.connection.send("PING") for _ in range(2)]
    for future in futures:
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.01 s"):
            await future
    assert peer.wire.aborted


async def test_a_reply_that_lies_in_the_socket_is_not_taken_for_silence() -> None:
    """After the limit the loop may read once more: a pause of this process costs no connection."""
    peer = Peer(timeout_s=0.01)
    future = peer.connection.send("PING")
    asyncio.get_running_loop().call_later(0.03, peer.says, b"+PONG\r\n")
    assert await future == b"PONG"
    assert peer.ends == []


async def test_what_is_unanswered_is_bounded() -> None:
    """Beyond the limit of bytes a command fails at once and is not sent; answers make room again."""
    peer = Peer(in_flight_bytes=100)
    first = peer.connection.send("SET", "a", "x" * 60)
    with pytest.raises(StoreUnavailable, match="more than 100 bytes wait"):
        peer.connection.send("SET", "b", "x" * 60)
    peer.says(b"+OK\r\n")
    assert await first == b"OK"
    second = peer.connection.send("SET", "b", "x" * 60)
    peer.says(b"+OK\r\n")
    assert await second == b"OK"


async def test_a_retired_connection_answers_what_was_sent_and_ends() -> None:
    """Retiring loses no reply, and is no loss that anyone is told of."""
    peer = Peer()
    future = peer.connection.send("PING")
    peer.connection.retire()
    assert not peer.wire.aborted
    peer.says(b"+PONG\r\n")
    assert await future == b"PONG"
    assert peer.wire.aborted
    assert peer.ends == []
