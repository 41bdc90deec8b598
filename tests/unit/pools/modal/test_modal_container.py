"""What runs in a pool's container, with real processes in the engine's place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pools.modal.container import end_engine, wait_until_healthy

SERVES = """
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Health)
print(server.server_port, flush=True)
server.serve_forever()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"


@contextmanager
def engine(code: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process and the number that it prints first, its port."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline() or 0)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_start_returns_once_the_engine_answers() -> None:
    """`/health` answers 200."""
    with engine(SERVES) as (process, port):
        wait_until_healthy(process, port, timeout_s=20, look_s=0.01)
        assert process.poll() is None


def test_an_engine_that_ends_fails_the_start() -> None:
    """Out of memory at load ends vLLM with a status; the container must not count as started."""
    with engine("print(9); raise SystemExit(3)") as (process, _):
        process.wait()
        with pytest.raises(RuntimeError, match="ended with status 3 before it served"):
            wait_until_healthy(process, 9, timeout_s=20, look_s=0.01)


def test_a_start_that_takes_too_long_says_what_was_awaited() -> None:
    """An engine that is up and does not answer."""
    with engine(STUBBORN) as (process, _), pytest.raises(TimeoutError, match="did not answer /health within 0 s"):
        wait_until_healthy(process, 9, timeout_s=0, look_s=0.01)


def test_an_engine_is_told_to_end_and_killed_if_it_does_not() -> None:
    """SIGTERM first, by which vLLM drains; one that ignores it is gone all the same."""
    with engine(SERVES) as (process, _):
        end_engine(process, timeout_s=20)
        assert process.returncode == -15
    with engine(STUBBORN) as (process, _):
        end_engine(process, timeout_s=0.05)
        assert process.returncode == -9
