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
from pathlib import Path

from support.repository import ROOT

VLLM = ROOT / ".venv-vllm" / "bin" / "vllm"
MODEL = ROOT / "tests" / "data" / "vllm_tiny_model"
SERVED = "tiny-qwen3"
ENGINE = "VLLM::EngineCor"  # the kernel keeps 15 characters of a process's name
VERSION = "0.32.0"
START_WITHIN_S = 300  # it takes 25 s on two idle cores
WARM_UP = b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "n": 2, "seed": 1, "stream": true}'
WITHIN_S = 10  # for what takes milliseconds on an idle machine

# One thread for each of the engine's numeric libraries: more would only fight over the cores.
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT / "tests" / "vllm" / "plugin"),
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
    "--logits-processors", "paced:Paced",
    "--kv-cache-memory-bytes", str(256 * 2**20),
    "--enable-server-load-tracking",
    # Random weights like white space: without this an object in JSON may never end.
    "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
)  # fmt: skip
_LOAD = re.compile(r"\d+")
_REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)\{.*\} (.*)", re.MULTILINE)


class RealVllm:
    """One server with its engine and worker. Its port stays the same over restarts."""

    def __init__(self, folder: Path, max_model_len: int, max_num_seqs: int, *flags: str) -> None:
        self.max_model_len = max_model_len
        self._folder = folder
        self._port = _free_port()
        self._flags = (*FLAGS, "--max-model-len", str(max_model_len), "--max-num-seqs", str(max_num_seqs), *flags)
        self._process: subprocess.Popen[bytes] | None = None
        self._lost = False
        self.url = f"http://127.0.0.1:{self._port}"

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a start; `wait_ready` ends it."""
        self.stop()
        self._lost = False
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
        """Until `/health` answers 200 and a request was answered: the first of each kind takes a second or more.

        Raises RuntimeError with the end of the log where the server never starts.
        """
        until = time.monotonic() + START_WITHIN_S
        while not self.healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"vLLM did not start:\n{log[-4000:]}")
            time.sleep(0.2)
        self._page("/v1/chat/completions", WARM_UP)

    def mend(self) -> None:
        """Undo what a test did to it: begin a new start where it is lost."""
        if self._lost:
            self.start()
        else:
            self.thaw()

    def stop(self) -> None:
        """End every process of the group, those that lost their parent too."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    # -- misfortune --------------------------------------------------------------------------------------------------

    def kill_engine(self) -> None:
        """What a CUDA error in a step comes to: the API server lives on for a moment and says so."""
        self._lost = True
        os.kill(self._member(ENGINE), signal.SIGKILL)

    def kill_server(self) -> None:
        """The API server is gone at once; engine and worker stay behind."""
        self._lost = True
        os.kill(self._leader(), signal.SIGKILL)

    def terminate(self) -> None:
        """What a platform sends before it takes a container away."""
        self._lost = True
        os.kill(self._leader(), signal.SIGTERM)

    def freeze(self) -> None:
        """The engine hangs; `/health` goes on answering 200."""
        os.kill(self._member(ENGINE), signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._member(ENGINE), signal.SIGCONT)

    def _leader(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _member(self, name: str) -> int:
        """A process of the group by the name it gives itself."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended since it was listed
                head, _, tail = stat.read_text().rpartition(") ")
                _, _, group = tail.split()[:3]
                if int(group) == self._leader() and head.endswith(f" ({name}"):
                    return int(stat.parent.name)
        raise LookupError(f"the server has no process {name}")

    # -- what it says of itself --------------------------------------------------------------------------------------

    async def until_server_has(self, count: int) -> None:
        """Until so many requests have come and are not answered, by the API server's count. Raises TimeoutError."""
        await asyncio.to_thread(self._until, "/load", _LOAD, count, WITHIN_S)

    async def until_engine_has(self, count: int, within_s: float = WITHIN_S) -> None:
        """Until so many choices run or wait in the engine, by its metrics. Raises TimeoutError."""
        await asyncio.to_thread(self._until, "/metrics", _REQUESTS, count, within_s)

    def _until(self, path: str, pattern: re.Pattern[str], wanted: int, within_s: float) -> None:
        until = time.monotonic() + within_s
        counts: list[int] = []
        while wanted not in counts:
            if time.monotonic() > until:
                raise TimeoutError(f"{path} counted {counts} within {within_s:g} s, never {wanted}")
            count = round(sum(float(value) for value in pattern.findall(self._page(path))))
            if counts[-1:] != [count]:
                counts.append(count)
            time.sleep(0.02)

    def _page(self, path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            text: str = answer.read().decode()
            return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
