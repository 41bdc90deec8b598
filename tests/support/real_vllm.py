"""A real vLLM server on CPU: a group of processes that a test may kill, freeze, end politely and start again.

The environment is what `make test-vllm` installs, the model the tiny one under tests/data. Everything that a server
writes goes into its own folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from support.repository import ROOT

VLLM = ROOT / ".venv-vllm" / "bin" / "vllm"
MODEL = ROOT / "tests" / "data" / "vllm_tiny_model"
SERVED = "tiny-qwen3"
VERSION = "0.32.0"
START_WITHIN_S = 300  # on two idle cores it takes 25 s
GAUGE_WITHIN_S = 10

# One thread for each of the engine's numeric libraries: more would only fight over the cores.
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
FLAGS = (
    "--served-model-name", SERVED,
    "--host", "127.0.0.1",
    "--dtype", "float32",
    "--enforce-eager",
    "--kv-cache-memory-bytes", str(256 * 2**20),
    # Random weights like white space: without this an object in JSON may never end.
    "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
)  # fmt: skip
_REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)\{.*\} (.*)", re.MULTILINE)


class RealVllm:
    """One server with its engine and worker. Its port stays the same over restarts."""

    def __init__(self, folder: Path, max_model_len: int, max_num_seqs: int, *flags: str) -> None:
        self.max_model_len = max_model_len
        self._folder = folder
        self._port = _free_port()
        self._flags = (*FLAGS, "--max-model-len", str(max_model_len), "--max-num-seqs", str(max_num_seqs), *flags)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a start; `wait_ready` ends it."""
        self.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [str(VLLM), "serve", str(MODEL), "--port", str(self._port), *self._flags]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**ENVIRONMENT, "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Until `/health` answers 200. Raises RuntimeError with the end of the log where it never does."""
        until = time.monotonic() + START_WITHIN_S
        while not self.healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"vLLM did not start:\n{log[-4000:]}")
            time.sleep(0.2)

    def ensure_ready(self) -> None:
        """Awake and well, whatever a test before has done to it."""
        if self.alive():
            self.thaw()
        else:
            self.start()
        self.wait_ready()

    def stop(self) -> None:
        """End every process of the group, those that lost their parent too."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def alive(self) -> bool:
        """All three of its processes run."""
        return self._process is not None and self._process.poll() is None and len(self._members()) == 2

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    # -- misfortune --------------------------------------------------------------------------------------------------

    def kill_engine(self) -> None:
        """What a CUDA error in a step comes to: the API server lives on for a moment and says so."""
        os.kill(self._members()["VLLM::EngineCor"], signal.SIGKILL)

    def kill_server(self) -> None:
        """The API server is gone at once; engine and worker stay behind."""
        assert self._process is not None
        self._process.kill()

    def terminate(self) -> None:
        """What a platform sends before it takes a container away."""
        assert self._process is not None
        self._process.terminate()

    def freeze(self) -> None:
        """The engine hangs; `/health` goes on answering 200."""
        os.kill(self._members()["VLLM::EngineCor"], signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._members()["VLLM::EngineCor"], signal.SIGCONT)

    def _members(self) -> dict[str, int]:
        """Engine and worker by the names that they give themselves, cut by the kernel at 15 characters."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # gone since it was listed
                pid, name, rest = re.fullmatch(r"(\d+) \((.*)\) (.*)", stat.read_text(), re.DOTALL).groups()  # type: ignore[union-attr]
                state, _, group = rest.split()[:3]
                if self._process and int(group) == self._process.pid and name.startswith("VLLM::") and state != "Z":
                    found[name] = int(pid)
        return found

    # -- what it says of itself --------------------------------------------------------------------------------------

    def busy(self) -> int:
        """Requests running or waiting, by its metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return round(sum(float(value) for value in _REQUESTS.findall(text)))

    async def until_busy(self) -> None:
        """Until a request runs. Raises TimeoutError."""
        await asyncio.to_thread(self._until, lambda count: count > 0, "busy", GAUGE_WITHIN_S)

    async def until_idle(self, within_s: float = GAUGE_WITHIN_S) -> None:
        """Until no request runs or waits. Raises TimeoutError."""
        await asyncio.to_thread(self._until, lambda count: count == 0, "idle", within_s)

    def _until(self, holds: Callable[[int], bool], what: str, within_s: float) -> None:
        until = time.monotonic() + within_s
        while not holds(count := self.busy()):
            if time.monotonic() > until:
                raise TimeoutError(f"not {what} after {within_s:g} s: {count} requests run or wait")
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
