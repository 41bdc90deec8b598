"""The worker of pools as a real process, with stand-ins for what only its container has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pools.catalog.engine_args import engine_command
from pools.catalog.load import load_catalog
from pools.modal.container import wait_until_healthy
from pools.spec import ArgValue, PoolSpec
from support.repository import ROOT
from support.values import replace

POOLS = load_catalog().pools


@dataclass(frozen=True)
class Worker:
    process: subprocess.Popen[bytes]
    url: str

    def stop(self) -> None:
        """As a platform does."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def worker_of(
    pool: PoolSpec, env: Mapping[str, str], python: Path | str = sys.executable, **arguments: ArgValue
) -> Iterator[Worker]:
    """The process that a deployment of this row would start, with some of its arguments set to others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = _with(engine_command(pool, port), arguments)
    process = subprocess.Popen([str(python), *command[1:]], env={**os.environ, **env}, cwd=ROOT)
    try:
        wait_until_healthy(process, port, 120, look_s=0.05)
        yield Worker(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def row(name: str, **keys: object) -> PoolSpec:
    """A shipped row with other keys."""
    return replace(POOLS[name], **keys)


def isolated(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python with the standard library and this folder alone."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)


def _with(command: tuple[str, ...], arguments: Mapping[str, ArgValue]) -> list[str]:
    words = list(command)
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        if option in words:
            words[words.index(option) + 1] = str(value)
        else:
            words += [option, str(value)]
    return words
