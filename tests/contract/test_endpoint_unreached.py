"""A pool whose address is wrong: its requests wait for a boot that never ends, and the log says why."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from pricing.clock import ScaledClock
from support.endpoint import one_pool, serving


async def test_a_pool_that_cannot_be_connected_to_is_named_in_the_log_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is looked at while requests wait; who asked is told that it is still starting."""
    with socket.socket() as closed:  # taken, and nobody listens there
        closed.bind(("127.0.0.1", 0))
        files = one_pool(
            defaults={"first_byte_deadline_s": 20},
            endpoints={"small": {"url": f"http://127.0.0.1:{closed.getsockname()[1]}"}},
        )
        files["pools"]["small"]["boot_s"] = 10
        async with serving(tmp_path, files, clock=ScaledClock(40)) as endpoint:
            reply = await endpoint.chat()
            assert (reply.status, reply.code) == (503, "model_warming")
            await endpoint.request()
    said = [vars(record)["fields"] for record in caplog.records if record.message == "pool not reached"]
    assert [(one["pool"], one["detail"].partition(" (")[0]) for one in said] == [("small", "cannot connect")]
    assert all(record.levelno == logging.WARNING for record in caplog.records if record.message == "pool not reached")
