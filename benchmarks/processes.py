"""Processes that are measured: started on one core, read from /proc (Linux), and stopped for certain."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TICK_US: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class NotReady(RuntimeError):
    """A process ended or did not answer in time; the message has the end of its log."""


@contextmanager
def running(
    command: Sequence[str], *, core: int, cwd: Path, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command pinned to a core, its output in `log`, in a process group of its own that is stopped at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=cwd,
            env=dict(os.environ) | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sent, patience_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    """Wait for a 200 from `url`. Raises NotReady."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    ended = f"ended with status {process.poll()}" if process.poll() is not None else f"silent for {timeout_s:.0f} s"
    raise NotReady(f"{url}: {ended}\n{log.read_text(errors='replace')[-2000:]}")


def tree(pid: int) -> list[int]:
    """A process and all its descendants alive now."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _stat(int(stat.parent.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_us(pid: int) -> int:
    """User and system time of a process tree, in microseconds; the kernel counts in ticks of 10 ms.

    With that of children that have ended, which their parents keep: a Redis that rewrites its file has one for a while.
    """
    return sum(sum(map(int, fields[11:15])) * TICK_US for member in tree(pid) if (fields := _stat(member)))


def resident_mb(pid: int) -> float:
    """Resident memory of a process tree in MB (10^6 bytes)."""
    return sum(int(fields[21]) * PAGE for member in tree(pid) if (fields := _stat(member))) / 1e6


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process is gone. Its name may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
