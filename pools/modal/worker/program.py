"""One run of a program for one request: bounded in time, ended when its client leaves, with what it printed last."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pools.modal.worker.line import ClientLeft, Gone
from pools.modal.worker.server import JobFailed

LOOK_S: Final = 0.2
TAIL_BYTES: Final = 8192
SAID_AT_MOST: Final = 300
DISK_FULL: Final = "no space left on device"
_TELLING: Final = ("out of memory", DISK_FULL, "error")  # what a line says that tells why, the best first


def run_program(command: Sequence[str], folder: Path, within_s: float, gone: Gone) -> None:
    """Run it in a folder of its own, into which it also prints. Raises JobFailed where it fails or takes longer than
    `within_s`, ClientLeft where nobody waits any more; whatever it started has ended then.
    """
    printed = folder / "printed.txt"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        status = _ended(process, time.monotonic() + within_s, gone)
    finally:
        _end(process)
    if status is None:
        raise JobFailed(f"it took longer than {within_s:g} s and was ended", 504)
    if status != 0:
        said = _why(printed) or f"the program ended with status {status}"
        raise JobFailed(said, 507 if DISK_FULL in said.lower() else 500)


def _ended(process: subprocess.Popen[bytes], end_s: float, gone: Gone) -> int | None:
    """Its exit status, None where the time is over first. Raises ClientLeft."""
    while time.monotonic() < end_s:
        try:
            return process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            if gone():
                raise ClientLeft from None
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its whole process group, also what outlived it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _why(printed: Path) -> str:
    """The last line that tells why it failed."""
    with printed.open("rb") as out:
        out.seek(max(0, printed.stat().st_size - TAIL_BYTES))
        lines = out.read().decode("utf-8", "replace").splitlines()
    for words in _TELLING:
        for line in reversed(lines):
            if words in line.lower():
                return line.strip()[:SAID_AT_MOST]
    return ""
