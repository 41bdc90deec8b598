"""Three real servers for all tests of this folder, started together and once; what a test broke is started again."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.real_vllm import RealVllm


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RealVllm]]:
    """`short` and `long` differ in context; `narrow` refuses what it would have to queue, and drains on SIGTERM."""
    # A SIGTERM, as CI sends at its time limit, must end the servers too: let it raise where the tests are.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = tmp_path_factory.mktemp("vllm")
    servers = {
        "short": RealVllm(folder / "short", 512, 4),
        "long": RealVllm(folder / "long", 2048, 8),
        "narrow": RealVllm(folder / "narrow", 2048, 8, "--max-num-queued-reqs", "8", "--shutdown-timeout", "60"),
    }
    try:
        for server in servers.values():
            server.start()
        for server in servers.values():
            server.wait_ready()
        yield servers
    finally:
        for server in servers.values():
            server.stop()


@pytest.fixture
def short(fleet: dict[str, RealVllm]) -> RealVllm:
    fleet["short"].ensure_ready()
    return fleet["short"]


@pytest.fixture
def long(fleet: dict[str, RealVllm]) -> RealVllm:
    fleet["long"].ensure_ready()
    return fleet["long"]


@pytest.fixture
def narrow(fleet: dict[str, RealVllm]) -> RealVllm:
    fleet["narrow"].ensure_ready()
    return fleet["narrow"]
