"""Which platform a policy gets, and what happens to it when files change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.kubernetes.live import KubernetesPlatform
from pools.kubernetes.settings import POLL_S as KUBERNETES_POLL_S
from pools.modal.live import ModalPlatform
from pools.modal.settings import POLL_S, Watched
from pools.platforms.http import HttpPlatform
from pools.platforms.several import SeveralPlatforms
from pricing.clock import ManualClock
from router.service.platforms import platform_of, poll_every_s, watched_pools

POLICY = """\
version: 1
price_book: modal-2026-10
classes: {chat: {ladder: {premium: [qwen3-4b-bf16-a10, qwen3-4b-fp16-t4]}}}
endpoints:
  qwen3-4b-bf16-a10: {url: "https://pool.example"}
  qwen3-4b-fp16-t4: {url: "http://127.0.0.1:9", always_on: 1}
"""
MODAL = "platform: {modal: {app_prefix: team}}\n"
URL = "platform: {url: 'http://127.0.0.1:8900'}\n"


def policy(folder: Path, platform: str) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(POLICY + platform, encoding="utf-8")
    return load_policy([path], environ={}, now_us=1_795_000_000_000_000)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_policy_chooses_the_platform(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """A URL, Modal, or none; Modal is looked at less often."""
    clock = ManualClock()
    assert isinstance(platform_of(policy(tmp_path, URL), None, session, clock), HttpPlatform)
    assert isinstance(platform_of(policy(tmp_path, MODAL), None, session, clock), ModalPlatform)
    assert platform_of(policy(tmp_path, ""), None, session, clock) is None
    assert (poll_every_s(policy(tmp_path, URL), 2.0), poll_every_s(policy(tmp_path, MODAL), 2.0)) == (2.0, POLL_S)


async def test_a_platform_with_wakes_goes_on_after_a_reload(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Modal's holds leases, so that the same object hears of the new rows."""
    before = platform_of(policy(tmp_path, MODAL), None, session, ManualClock())
    assert platform_of(policy(tmp_path, MODAL), before, session, ManualClock()) is before


def test_only_pools_that_modal_runs_are_watched(tmp_path: Path) -> None:
    """A plain server at an address is no Server of Modal's; neither is a pool without an endpoint."""
    loaded = policy(tmp_path, MODAL)
    assert loaded.modal is not None
    boot_s = loaded.boots_s["qwen3-4b-bf16-a10"]
    assert watched_pools(loaded, loaded.modal) == {
        "qwen3-4b-bf16-a10": Watched("team-qwen3-4b-bf16-a10", "pool", 0, boot_s)
    }


KUBERNETES = "platform: {kubernetes: {deployments: {qwen3-4b-bf16-a10: {name: vllm}}}}\n"
BOTH = "platform: {modal: {}, kubernetes: {deployments: {qwen3-4b-bf16-a10: {name: vllm}}}}\n"


async def test_kubernetes_alone_and_beside_modal(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """What is not changed goes on as the same object, so that no lease is lost on a reload; Modal never sees the pools
    that Kubernetes has.
    """
    clock = ManualClock()
    alone = platform_of(policy(tmp_path, KUBERNETES), None, session, clock)
    assert isinstance(alone, KubernetesPlatform)
    assert platform_of(policy(tmp_path, KUBERNETES), alone, session, clock) is alone
    assert poll_every_s(policy(tmp_path, KUBERNETES), 2.0) == KUBERNETES_POLL_S
    both = platform_of(policy(tmp_path, BOTH), alone, session, clock)
    assert isinstance(both, SeveralPlatforms)
    assert both.kubernetes is alone
    assert platform_of(policy(tmp_path, BOTH), both, session, clock) is both
    modal_alone = platform_of(policy(tmp_path, MODAL), None, session, clock)
    joined = platform_of(policy(tmp_path, BOTH), modal_alone, session, clock)
    assert isinstance(joined, SeveralPlatforms)
    assert joined.other is modal_alone
    assert platform_of(policy(tmp_path, MODAL), joined, session, clock) is modal_alone
    assert platform_of(policy(tmp_path, KUBERNETES), joined, session, clock) is joined.kubernetes
    assert platform_of(policy(tmp_path, ""), joined, session, clock) is joined
    loaded = policy(tmp_path, BOTH)
    assert loaded.modal is not None
    assert watched_pools(loaded, loaded.modal) == {}
