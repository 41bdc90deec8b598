"""What Modal would start as the router's container, started here, before servers that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pools.modal.container import end_engine, wait_until_healthy
from pools.modal.router import FOLDER, PORT, STOP_S
from support.modal_router import wanted, write_policy
from support.real_redis import free_port
from support.repository import ROOT

ENVIRONMENT = {
    "SLUICE_REDIS_URL": "redis://127.0.0.1:1",
    "SLUICE_LEDGER": "postgresql://sluice:no-such-password@127.0.0.1:1/ledger",
    "MODAL_PROXY_KEY": "wk-1",
    "MODAL_PROXY_SECRET": "ws-1",
    "MODAL_TOKEN_ID": "",
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def router(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The declaration's command, with this machine's Python, port and folder in place of the container's."""
    declared = wanted(write_policy(tmp_path)).declaration
    here = {"python": sys.executable, str(PORT): str(port), "0.0.0.0": "127.0.0.1"}
    words = json.loads(declared.env["POOL_COMMAND"])
    command = [here.get(word, word.replace(FOLDER, str(tmp_path), 1)) for word in words]
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}, **ENVIRONMENT}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def test_the_declared_command_starts_and_ends_within_modals_time(
    router: subprocess.Popen[bytes], port: int, tmp_path: Path
) -> None:
    """It listens although neither store is there, says that it is not ready, with the policy that the App's tag names;
    SIGTERM ends it with 0.
    """
    wait_until_healthy(router, port, timeout_s=60, look_s=0.1)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/readiness", timeout=10)
    told = json.load(refused.value)
    assert (refused.value.code, told["store"]) == (503, "down")
    assert told["policy_version"] == wanted(tmp_path / "policy.yaml").declaration.tags["policy"]
    end_engine(router, STOP_S)
    assert router.returncode == 0


def test_a_secret_that_names_a_file_as_ledger_fails_the_start(tmp_path: Path) -> None:
    """SQLite cannot come in by a Secret's value, which a deployment never sees: such a container does not start."""
    command = [sys.executable, "-m", "router", "serve", "--policy", str(write_policy(tmp_path))]
    environment = {**os.environ, **ENVIRONMENT, "SLUICE_LEDGER": "/ledger/sluice.sqlite"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "replicas share their ledger in PostgreSQL" in done.stderr
