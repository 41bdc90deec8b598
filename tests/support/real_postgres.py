"""Real PostgreSQL servers for tests: on a free loopback port, with data in a folder, killed and started again at will.

The programs are found by `pg_config`, on the PATH, or where Debian keeps them. PostgreSQL refuses to run as root; then
it runs as `postgres` or `nobody`, in a folder that such a user can reach. Everything here blocks: a test that runs an
event loop may call it all the same.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg

from support.real_redis import free_port

NO_PROGRAM: Final = "no PostgreSQL server: install the distribution's package `postgresql`"
ANSWERS_WITHIN_S: Final = 60.0
USER: Final = "sluice"
# What is committed survives a kill of every process, since the system holds it; only a power cut could lose it.
DEFAULTS: Final = {
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "log_min_messages": "warning",
}


def find_postgres() -> Path | None:
    """The folder that holds `postgres` and `initdb`; None where there is none."""
    return next((folder for folder in _candidates() if (folder / "postgres").exists()), None)


class PostgresServer:
    """One server. `settings` are settings of postgresql.conf. A restart keeps port and data."""

    host = "127.0.0.1"

    def __init__(self, programs: Path, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """`folder` must be reachable for the user that the server runs as."""
        self._programs = programs
        self.folder = folder
        self._settings = {**DEFAULTS, **(settings or {})}
        self._user = _user()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@{self.host}:{self.port}/{database}"

    @property
    def log(self) -> str:
        return (self.folder / "postgres.log").read_text(encoding="utf-8", errors="replace")

    def create(self) -> None:
        """Make the data folder. Raises CalledProcessError."""
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        words = [str(self._programs / "initdb"), "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        words += [f"--username={USER}", f"--pgdata={self.folder / 'data'}"]
        subprocess.run(words, check=True, capture_output=True, cwd=self.folder, **self._as_user())

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with its log when it does not."""
        until = time.monotonic() + ANSWERS_WITHIN_S
        while time.monotonic() < until:
            self._launch()
            if self._answers(until):
                return
            self.kill()
            if "Address already in use" in self.log and not (self.folder / "data" / "postmaster.opts").exists():
                self.port = free_port()  # somebody else was faster
            elif "shared memory block" not in self.log:  # processes of the server before this one are still dying
                break
            time.sleep(0.05)
        raise RuntimeError(f"postgres did not answer on port {self.port}:\n{self.log[-2000:]}")

    def kill(self) -> None:
        """kill -9 of every process of it: what it has not written is lost."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP)  # so that it starts no others meanwhile
            for pid in _children(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP for every process of it: connections stay open and nothing answers, nor accepts new ones."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def stop(self) -> None:
        """An orderly end that does not wait for clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def restart(self) -> None:
        """kill -9, then start with the same data."""
        self.kill()
        self.start()

    def execute(self, statement: LiteralString, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement over a connection of its own, outside a transaction."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def new_database(self, template: str = "template0") -> str:
        """The address of a new database: an empty one, or a copy of `template`."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            words = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(words.format(psycopg.sql.Identifier(name), psycopg.sql.Identifier(template)))
        return self.url(name)

    def _signal_all(self, number: signal.Signals) -> None:
        """The first process first, so that it starts no others meanwhile."""
        if self._process is None:
            return
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _launch(self) -> None:
        words = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        for name, value in self._settings.items():
            words += ["-c", f"{name}={value}"]
        with (self.folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self._as_user()
            )

    def _answers(self, until: float) -> bool:
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return True
            time.sleep(0.02)
        return False

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def running_postgres(settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A server, stopped afterwards and its data removed. Raises RuntimeError where there is no program."""
    programs = find_postgres()
    if programs is None:
        raise RuntimeError(NO_PROGRAM)
    with tempfile.TemporaryDirectory(prefix="sluice-postgres-", dir=_reachable_folder()) as folder:
        server = PostgresServer(programs, Path(folder), settings)
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.kill()


def _candidates() -> Iterator[Path]:
    config = shutil.which("pg_config")
    if config is not None:
        yield Path(subprocess.run([config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _user() -> pwd.struct_passwd | None:
    """Who the server runs as: ourselves (None), unless we are root."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def _reachable_folder() -> str | None:
    """Where temporary data lies: the usual place, unless only root can reach that."""
    usual = Path(tempfile.gettempdir()).resolve()
    if _user() is None or all(folder.stat().st_mode & 0o001 for folder in (usual, *usual.parents)):
        return None
    return "/tmp"


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(stat.parent.name))
    return found
