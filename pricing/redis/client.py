"""The client: one connection to the server that holds our keys, kept up by itself.

All keys of a namespace carry one hash tag and so lie in one slot: on a cluster, too, one connection to the node that
owns it serves all steps. MOVED is followed. A command finds the connection up or fails at once; nothing queues while
there is none. Waits are for real sockets, so they are in real time whatever clock the product runs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import hiredis

from pricing.errors import StoreUnavailable
from pricing.redis.address import SETTING, RedisAddress
from pricing.redis.connection import Connection, Word, bulk
from pricing.redis.replies import RedisReplyError, unavailable
from pricing.redis.scripts import Script

CONNECT_WITHIN_S: Final = 2.0
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
REDIRECTS_AT_MOST: Final = 5
# After these we look again: an address may lead elsewhere (a failover behind a name), and of a cluster that is split
# only the smaller part is down.
_LOOK_AGAIN: Final = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN"})


class RedisClient:
    """Every method raises StoreUnavailable where the server cannot be reached or cannot serve, saying what to do.

    `name` is what `CLIENT LIST` shows; `timeout_s` bounds the wait for each reply, `in_flight_bytes` what may be
    unanswered. One client belongs to one event loop.
    """

    def __init__(
        self, address: RedisAddress, name: str = "sluice", timeout_s: float = 1.0, in_flight_bytes: int = 16 * 2**20
    ) -> None:
        self.address = address
        self._name = name
        self._timeout_s = timeout_s
        self._in_flight_bytes = in_flight_bytes
        self._connection: Connection | None = None
        self._node = address  # where the connection is, or was last
        self._nodes: tuple[RedisAddress, ...] = ()  # of the cluster, as one of them told
        self._last_resort: RedisAddress | None = None  # a node that could not serve, to be tried after the others
        self._problem = f"Redis at {address} has not been connected yet"
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._loading: dict[bytes, asyncio.Task[Any]] = {}

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def problem(self) -> str | None:
        """Why there is no connection; None where there is one."""
        return None if self.connected else self._problem

    async def connect(self) -> None:
        """Connect, if that is not done. After a failure, which is raised, the client goes on trying by itself."""
        if self._connection is not None:
            return
        try:
            await self._open(self._node)
        except StoreUnavailable as problem:
            self._try_again(str(problem))
            raise

    async def command(self, *words: Word) -> Any:
        """The reply: bytes, int, None, or a list of these. Raises RedisReplyError for an error reply.

        When it raises StoreUnavailable because the connection broke, the command may have been run all the same.
        """
        return await self._packed(hiredis.pack_command(words))  # type: ignore[arg-type] # its stub knows one word only

    async def _packed(self, command: bytes) -> Any:
        for _ in range(REDIRECTS_AT_MOST):
            connection = self._connection
            if connection is None:
                raise StoreUnavailable(self._problem)
            try:
                return await connection.send_packed(command)
            except RedisReplyError as error:
                await self._answer(error, connection)
        raise StoreUnavailable(f"the nodes of the cluster at {self.address} do not agree on who owns our slot")

    async def evalsha(self, script: Script, keys: Sequence[Word], args: Sequence[Word]) -> Any:
        """Run a script; where the server does not know it (a restart, SCRIPT FLUSH) it is loaded first."""
        return await self.run(script, (evalsha_head(script, keys, len(args)), *map(bulk, args)))

    async def run(self, script: Script, parts: Iterable[bytes]) -> Any:
        """Like `evalsha`, with the command in parts: its `evalsha_head`, and each argument as `bulk` packs it."""
        command = b"".join(parts)
        connection = self._connection
        if connection is None:
            raise StoreUnavailable(self._problem)
        try:
            return await connection.send_packed(command)  # as `command` does, without a frame more in every step
        except RedisReplyError as error:
            if error.code != "NOSCRIPT":
                await self._answer(error, connection)
        await self._load(script)
        return await self._packed(command)

    async def aclose(self) -> None:
        """End the connection; commands without a reply raise StoreUnavailable."""
        self._closed = True
        self._problem = "the client was closed"
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        # Callers wait for the others, which end by themselves now that the connection has.
        tasks = [task for task in (self._reconnecting, self._following, *self._loading.values()) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, script: Script) -> None:
        """SCRIPT LOAD, once for all who miss it at the same time."""
        loading = self._loading.get(script.sha)
        if loading is None:
            loading = asyncio.create_task(self.command("SCRIPT", "LOAD", script.text))
            self._loading[script.sha] = loading
            loading.add_done_callback(lambda _: self._loading.pop(script.sha, None))
        await asyncio.shield(loading)

    # Connections

    async def _open(self, node: RedisAddress) -> None:
        """Connect to a node, introduce ourselves and take it from there on."""
        connection = None
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                self._must_be_open()
                connection = await self._dial(node)
                await self._introduce(connection)
        except OSError as problem:  # of which TimeoutError is one, without words
            reason = str(problem) or f"no answer within {CONNECT_WITHIN_S:g} s"
            raise StoreUnavailable(f"Redis at {node} cannot be reached ({reason}); check {SETTING}") from problem
        finally:
            if connection is not None and self._connection is not connection:
                connection.close()

    async def _dial(self, node: RedisAddress) -> Connection:
        loop = asyncio.get_running_loop()

        def protocol() -> Connection:
            return Connection(node, self._timeout_s, self._in_flight_bytes, self._lost)

        if node.path is not None:
            return (await loop.create_unix_connection(protocol, node.path))[1]
        return (await loop.create_connection(protocol, node.host, node.port, ssl=node.tls))[1]

    async def _introduce(self, connection: Connection) -> None:
        """Log in, choose the database, say our name, learn the cluster's nodes; all in one write."""
        node = connection.node
        user = (node.username,) if node.username is not None else ()
        greeting: dict[str, tuple[Word, ...]] = {
            **({"AUTH": ("AUTH", *user, node.password)} if node.password is not None else {}),
            **({"SELECT": ("SELECT", node.database)} if node.database else {}),
            "PING": ("PING",),
            "SETNAME": ("CLIENT", "SETNAME", self._name),
            "SLOTS": ("CLUSTER", "SLOTS"),
        }
        sent = [connection.send(*words) for words in greeting.values()]
        replies = dict(zip(greeting, await asyncio.gather(*sent, return_exceptions=True), strict=True))
        for step in ("AUTH", "SELECT", "PING"):
            _must_succeed(step, replies.get(step), node)
        if isinstance(replies["SLOTS"], list):
            self._nodes = tuple(_nodes(replies["SLOTS"], node))
        self._must_be_open()
        if not connection.usable:
            raise StoreUnavailable(f"Redis at {node} ended the connection behind its greeting")
        before, self._connection = self._connection, connection
        self._node = node
        if before is not None:
            before.retire()

    def _must_be_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(self._problem)

    def _lost(self, connection: Connection, reason: str) -> None:
        if connection is self._connection:
            self._connection = None
            self._try_again(f"the connection to Redis at {connection.node} was lost: {reason}")

    def _try_again(self, reason: str, pause_s: float = 0.0) -> None:
        """From now on nobody waits for a connection: commands fail with the reason, and one task tries."""
        if self._closed:
            return
        self._problem = reason
        if self._reconnecting is None or self._reconnecting.done():
            self._reconnecting = asyncio.create_task(self._reconnect(pause_s))

    async def _reconnect(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        while not await self._reached_one():
            pause_s = min(max(FIRST_PAUSE_S, 2 * pause_s), LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _reached_one(self) -> bool:
        """Try the node that we had, then the others that it told of, then the one in the settings."""
        nodes = dict.fromkeys((self._node, *self._nodes, self.address))
        for node in sorted(nodes, key=lambda node: node == self._last_resort):
            if self._connection is not None:  # by `connect`, meanwhile
                return True
            try:
                await self._open(node)
            except StoreUnavailable as problem:
                self._problem = str(problem)
        return self.connected

    # Error replies

    async def _answer(self, error: RedisReplyError, connection: Connection) -> None:
        """Returns when the command is worth sending again: it was not run, and the connection leads elsewhere now."""
        if error.code == "MOVED":
            await self._follow(_moved_to(error, connection.node))
            return
        problem = unavailable(error, str(connection.node))
        if problem is None:
            raise error
        if error.code in _LOOK_AGAIN and connection is self._connection:
            self._connection, self._last_resort = None, connection.node
            connection.retire()
            self._try_again(str(problem), FIRST_PAUSE_S)
        raise problem from error

    async def _follow(self, node: RedisAddress) -> None:
        """Go to the node that owns our slot; one task for all who were sent there."""
        if self._connection is not None and self._node == node:
            return
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._open(node))
        await asyncio.shield(self._following)


def evalsha_head(script: Script, keys: Sequence[Word], args: int) -> bytes:
    """An EVALSHA of a script on these keys up to its arguments, of which there will be so many."""
    words = (b"EVALSHA", script.sha, len(keys), *keys)
    return b"*%d\r\n%b" % (len(words) + args, b"".join(map(bulk, words)))


def _must_succeed(step: str, reply: object, node: RedisAddress) -> None:
    """Raise StoreUnavailable unless a step of the greeting went well. A reply to AUTH is never quoted: a server that
    does not know the command repeats its words.
    """
    if isinstance(reply, StoreUnavailable):
        raise reply
    if not isinstance(reply, RedisReplyError):
        return
    problem = unavailable(reply, str(node))
    if problem is not None:
        raise problem
    if step == "AUTH":
        raise StoreUnavailable(f"Redis at {node} does not take the user and password of {SETTING} ({reply.code})")
    if step == "SELECT":
        raise StoreUnavailable(
            f"Redis at {node} has no database {node.database} ({reply}); a cluster has 0 only: correct {SETTING}"
        )
    raise StoreUnavailable(f"Redis at {node} answers {reply}; check {SETTING}")


def _nodes(slots: list[Any], asked: RedisAddress) -> list[RedisAddress]:
    """The nodes in a reply to CLUSTER SLOTS, `[[first, last, [host, port, …], …], …]`; no host means who was asked."""
    found = [
        asked.at((member[0] or b"").decode() or asked.host, member[1]) for range_ in slots for member in range_[2:]
    ]
    return list(dict.fromkeys(found))


def _moved_to(error: RedisReplyError, asked: RedisAddress) -> RedisAddress:
    """`MOVED 3999 10.0.0.7:6381`; without a host (Redis 7, unknown endpoint) it is the one who was asked."""
    host, _, port = error.text.split()[-1].rpartition(":")
    return asked.at(asked.host if host in ("", "?") else host, int(port))
