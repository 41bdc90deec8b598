"""Three real servers for all tests of this folder, started together."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.real_vllm import RealVllm


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RealVllm]]:
    """`short` and `long` differ in context; `narrow` refuses a ninth request, and drains on SIGTERM.

    Each runs two answers at a time, so that many of them take many seconds on any machine.
    """
    # A SIGTERM, as CI sends at its time limit, must end the servers too: let it raise where the tests are.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = tmp_path_factory.mktemp("vllm")
    servers = {
        "short": RealVllm(folder / "short", 1024, 2),
        "long": RealVllm(folder / "long", 2048, 2),
        "narrow": RealVllm(folder / "narrow", 2048, 2, "--max-num-queued-reqs", "8", "--shutdown-timeout", "60"),
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
def short(fleet: dict[str, RealVllm]) -> Iterator[RealVllm]:
    yield from _whole(fleet["short"])


@pytest.fixture
def long(fleet: dict[str, RealVllm]) -> Iterator[RealVllm]:
    yield from _whole(fleet["long"])


@pytest.fixture
def narrow(fleet: dict[str, RealVllm]) -> Iterator[RealVllm]:
    yield from _whole(fleet["narrow"])


def _whole(server: RealVllm) -> Iterator[RealVllm]:
    """A server that is well; one that a test has broken starts again while the next tests use the others."""
    server.wait_ready()
    yield server
    server.mend()
