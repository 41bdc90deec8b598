"""Simulated pools in the place of what a policy names."""

from __future__ import annotations

from pathlib import Path

from router.service.simulated import Simulated
from support.choosing import load, write_policy

POLICY = """\
version: 1
price_book: modal-2026-10
classes: {chat: {ladder: {economy: [qwen3-4b-bf16-a10], premium: [qwen3-vl-8b-bf16-l40s]}}}
"""
NAMES = """\
endpoints:
  qwen3-4b-bf16-a10: {url: "https://a10.example", always_on: 2}
  qwen3-vl-8b-bf16-l40s: {url: "https://l40s.example"}
platform: {url: "https://platform.example"}
webhooks: [{url: "https://ops.example/hook", secret: "${SECRET}"}]
"""
A10 = "qwen3-4b-bf16-a10"
SIMULATED = Simulated("http://127.0.0.1:8900", frozenset({A10}))


def test_nothing_that_the_files_name_is_left(tmp_path: Path) -> None:
    """Endpoints, platform and webhooks go, one that no simulated pool stands for too; the version is the files'."""
    named = load(write_policy(tmp_path, POLICY + NAMES), SECRET="not told")
    policy = SIMULATED.instead(named)
    assert {name: one.url for name, one in policy.endpoints.items()} == {A10: f"http://127.0.0.1:8900/pools/{A10}"}
    assert policy.endpoints[A10].always_on == 0
    assert (policy.platform_url, policy.modal, policy.kubernetes) == ("http://127.0.0.1:8900", None, None)
    assert policy.webhooks == ()
    assert policy.version == named.version
    assert policy.replaced == ("2 endpoints", "platform url", "1 webhook")


def test_a_policy_that_names_nothing_has_nothing_replaced(tmp_path: Path) -> None:
    """So that an operator is told of real pools alone."""
    policy = SIMULATED.instead(load(write_policy(tmp_path, POLICY)))
    assert (list(policy.endpoints), policy.replaced) == ([A10], ())


def test_a_pool_that_left_the_files_has_no_endpoint(tmp_path: Path) -> None:
    """An edit while it runs may take a pool out, which then is in no catalogue of the policy's."""
    other = POLICY.replace(A10, "qwen3-vl-8b-fp8-l4")
    assert not SIMULATED.instead(load(write_policy(tmp_path, other))).endpoints
