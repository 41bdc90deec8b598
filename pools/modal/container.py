"""What runs in a container: starts the engine, or the router, waits until it answers, passes the end on to it.

Modal imports this module in the container as it stands, so it needs the standard library and the SDK, nothing of ours.
It is one plain global class for all pools and the router; which one it is, its environment says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

import modal

LOOK_S = 1.0
MARGIN_S = 10  # before Modal ends a start that takes too long, so that the log says what was awaited


class PoolServer:
    """One container of a pool: `POOL_COMMAND` is the engine's command line as a JSON list."""

    engine: subprocess.Popen[bytes] | None = None

    @modal.enter()
    def start(self) -> None:
        """Start the engine; return once it answers. Raises RuntimeError when it ends first, TimeoutError if it is late:
        the container then counts as failed, and the pool stays without one instead of hiding it.
        """
        self.engine = subprocess.Popen(json.loads(os.environ["POOL_COMMAND"]))
        wait_until_healthy(self.engine, int(os.environ["POOL_PORT"]), int(os.environ["POOL_STARTUP_S"]) - MARGIN_S)

    @modal.exit()
    def stop(self) -> None:
        """Let running requests end, then end the engine; there is none where it could not be started."""
        if self.engine is not None:
            end_engine(self.engine, int(os.environ["POOL_DRAIN_S"]) + 1)


def wait_until_healthy(engine: subprocess.Popen[bytes], port: int, timeout_s: float, look_s: float = LOOK_S) -> None:
    """Look at the engine's `/health` until it answers 200. Raises RuntimeError and TimeoutError as `start` does."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        status = engine.poll()
        if status is not None:
            raise RuntimeError(f"the engine ended with status {status} before it served; its log says why")
        if _healthy(port):
            return
        time.sleep(look_s)
    raise TimeoutError(f"the engine did not answer /health within {timeout_s:.0f} s")


def end_engine(engine: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM, by which vLLM drains; SIGKILL for one that is still there after `timeout_s`."""
    engine.send_signal(signal.SIGTERM)
    try:
        engine.wait(timeout_s)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
