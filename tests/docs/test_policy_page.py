"""docs/policy-files.md has every key with its default, and its examples load."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.explain.states_file import read_states
from policies.files import schema
from policies.policy import BreakerSettings, Limits, WebhookEvent
from pricing.budgets.caps import RateLimits, parse_scope
from support.choosing import NOW_US, shipped, write_policy
from support.docs import blocks
from support.repository import ROOT

PAGE = ROOT / "docs" / "policy-files.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHAPES = [
    schema.PolicyFile,
    schema.ClassShape,
    schema.DefaultKeys,
    schema.BreakerShape,
    schema.TenantShape,
    schema.KeyShape,
    schema.CapShape,
    schema.ThresholdsShape,
    schema.RaiseShape,
    schema.EndpointShape,
    schema.PlatformShape,
    schema.PredictShape,
    schema.RateLimitsShape,
    schema.WebhookShape,
]
BASE = "version: 1\nprice_book: modal-2026-10\nclasses: {chat: {ladder: {premium: [qwen3-vl-8b-fp8-l4]}}}\n"


def row(key: str) -> list[str]:
    """The cells of a key's table row."""
    line = next(line for line in TEXT.splitlines() if line.startswith("|") and f"`{key}`" in line.split("|")[1])
    return [cell.strip() for cell in line.strip("|").split("|")]


def example(heading: str) -> str:
    return next(block.text for block in blocks(PAGE) if block.text.startswith(f"# {heading}"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_key_is_on_the_page(shape: type[schema.Shape]) -> None:
    """A key that a file may have is explained."""
    assert [name for name in shape.model_fields if f"`{name}`" not in TEXT] == []


def test_the_defaults_on_the_page_are_those_of_the_code() -> None:
    """Each policy key's row ends in its default."""
    breaker = BreakerSettings()
    said = {
        "breaker": f"{breaker.failures}, {breaker.window_s:g}, {breaker.half_open_after_s:g}",
        "retry_budget": f"{Limits().retry_budget:.0%}",
        "waiting_usd_per_hour": f"{Limits().waiting_usd_per_hour:.2f}",
        "buffer": "`false`",
    }
    for one in fields(Limits):
        default = getattr(Limits(), one.name)
        if default is None:
            assert row(one.name)[-1].startswith("5 ×")
        else:
            expected = said.get(one.name) or (f"{default:g}" if isinstance(default, float | int) else f"`{default}`")
            assert row(one.name)[-1] == expected, one.name


def test_the_endpoints_example_loads(tmp_path: Path) -> None:
    """Its variables are filled in from the environment."""
    indented = "".join(f"  {line}\n" for line in example("endpoints").splitlines())
    names = set(re.findall(r"\$\{(\w+)\}|os\.environ/(\w+)", indented))
    environ = {first or second: "value" for first, second in names}
    path = write_policy(tmp_path, f"{BASE}endpoints:\n{indented}")
    policy = load_policy([path], environ=environ, now_us=NOW_US)
    assert policy.endpoints["qwen3-4b-fp16-t4"].url == "https://value--qwen3-4b.example"
    assert policy.endpoints["qwen3-vl-8b-fp8-l4"].always_on == 1


def test_the_limits_example_loads(tmp_path: Path) -> None:
    """A tenant's numbers replace those for all tenants, and its key has one of its own."""
    policy = load_policy([write_policy(tmp_path, BASE + example("limits"))], environ={}, now_us=NOW_US)
    assert policy.caps.limits == {
        parse_scope("tenant:acme"): RateLimits(600, 200_000, None),
        parse_scope("key:acme-nightly"): RateLimits(60),
    }


def test_the_webhooks_example_loads(tmp_path: Path) -> None:
    """Its secret is filled in from the environment."""
    path = write_policy(tmp_path, BASE + example("webhooks"))
    [webhook] = load_policy([path], environ={"WEBHOOK_SECRET": "s3cret"}, now_us=NOW_US).webhooks
    assert webhook.secret == "s3cret"
    assert webhook.events == {WebhookEvent.CAP_WARNED, WebhookEvent.STORE_DOWN}


def test_the_states_example_loads(tmp_path: Path) -> None:
    """It names pools of the shipped policy and fields of a state."""
    states = read_states(write_policy(tmp_path, example("states")), shipped())
    assert states["qwen3-vl-8b-fp8-l4"].in_flight == 3
