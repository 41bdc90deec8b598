"""Rate limits, amounts and webhooks in policy files: what they compile to, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.policy import Webhook, WebhookEvent
from pricing.budgets.caps import RateLimits, Scope, parse_scope
from pricing.errors import FileProblem
from support.choosing import NOW_US, load, write_policy

BASE = """\
version: 1
price_book: modal-2026-10
classes:
  chat:
    ladder:
      premium: [qwen3-4b-bf16-a10]
"""
LINES = BASE.count("\n")


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """The problems of a file whose text follows `BASE`: `1: what is wrong` for the first line of that text."""
    path = write_policy(tmp_path, BASE + text)
    with pytest.raises(FileProblem) as raised:
        load(path, **environ)
    found = []
    for problem in raised.value.problems:
        line, _, said = problem.removeprefix(f"{path}:").partition(":")
        found.append(f"{int(line) - LINES}:{said}")
    return found


def limits(tmp_path: Path, text: str) -> dict[Scope, RateLimits]:
    return dict(load(write_policy(tmp_path, BASE + text)).caps.limits)


def test_limits_of_tenants_and_keys(tmp_path: Path) -> None:
    """A tenant's own limits stand over those for all tenants, number by number; `unlimited` takes one off."""
    text = f"""\
defaults: {{limits: {{requests_per_minute: 600, in_flight: 8}}}}
tenants:
  acme: {{limits: {{tokens_per_minute: 100_000, in_flight: unlimited}}}}
  globex:
    keys: [{{id: night, sha256: {"a" * 64}, limits: {{requests_per_minute: 0}}}}, {{id: day, sha256: {"b" * 64}}}]
"""
    assert limits(tmp_path, text) == {
        parse_scope("tenant:acme"): RateLimits(600, 100_000, None),
        parse_scope("tenant:globex"): RateLimits(600, None, 8),
        parse_scope("key:night"): RateLimits(requests_per_minute=0),
    }


def test_without_tenants_the_limits_for_all_hold_for_this_machine(tmp_path: Path) -> None:
    """Who asks on loopback while no tenants are named is a tenant too."""
    assert limits(tmp_path, "defaults: {limits: {in_flight: 2}}\n") == {
        parse_scope("tenant:local"): RateLimits(None, None, 2)
    }


def test_no_limits_are_none(tmp_path: Path) -> None:
    """What nobody limits is in no table, so that nothing is counted for it."""
    assert limits(tmp_path, "tenants: {acme: {limits: {in_flight: unlimited}}}\n") == {}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("requests_per_minute: -1", "a limit cannot be negative"),
        ("requests_per_minute: 1.5", "a limit is a whole number"),
        ("requests_per_minute: 60.0", "a limit is a whole number"),
        ("tokens_per_minute: .nan", "a limit is a whole number"),
        ("tokens_per_minute: 1000000000001", "at most 1,000,000,000,000; for no limit at all, write unlimited"),
        ("in_flight: true", "a limit is a whole number"),
        ("in_flight: '5'", "a limit is a whole number"),
        ("in_flight: unlimted", "a limit is a whole number, such as 600, or the word unlimited"),
        ("request_per_minute: 5", "did you mean 'requests_per_minute'?"),
    ],
)
@pytest.mark.parametrize("under", ["tenants: {acme: {limits: {\n%s}}}\n", "defaults: {limits: {\n%s}}\n"])
def test_limits_that_are_none(tmp_path: Path, under: str, written: str, said: str) -> None:
    """Negative, fractional, NaN, huge or misspelt: refused at load, with file and line."""
    [problem] = problems(tmp_path, under % written)
    assert problem.startswith("2:")
    assert said in problem


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("9007199.254740992", "at most 9,007,199 dollars"),
        ("1e15", "at most 9,007,199 dollars"),
        ("1e999999", "not an amount of dollars"),
        ("123456789012345678901.1234567891", "not an amount of dollars"),
        ("0.0000000001", "more than nine decimals"),
        ("-1", "cannot be negative"),
        (".nan", "not an amount of dollars"),
        (".inf", "not an amount of dollars"),
        ("unlimted", "not an amount of dollars: 'unlimted'; did you mean 'unlimited'?"),
    ],
)
def test_amounts_that_are_none(tmp_path: Path, amount: str, said: str) -> None:
    """A cap's amount is what a store can count exactly, in dollars of at most nine decimals; so is that of a raise."""
    cap = f"caps: [{{name: day, window: 24h, scope: 'class:chat', amount_usd: '{amount}'}}]\n"
    raised = f"""\
caps:
  - name: day
    window: 24h
    scope: class:chat
    amount_usd: 1
    raises: [{{amount_usd: '{amount}', until: 2026-02-01}}]
"""
    [first] = problems(tmp_path, cap)
    [second] = problems(tmp_path, raised)
    assert (first[:2], second[:2]) == ("1:", "6:")
    assert said in first
    assert said in second


def test_the_largest_amount(tmp_path: Path) -> None:
    """One below two to the power of 53 nano-dollars: every amount and sum up to there is exact on every store."""
    text = "caps: [{name: day, window: 24h, scope: 'class:chat', amount_usd: '9007199.254740991'}]\n"
    [cap] = load(write_policy(tmp_path, BASE + text)).caps.caps
    assert cap.amount_nusd == 2**53 - 1


def test_a_chain_s_limit_has_whole_nano_dollars(tmp_path: Path) -> None:
    """What could not be taken for an amount while a request runs is refused when the file is read."""
    [problem] = problems(tmp_path, "defaults:\n  chain_cost_limit_usd: 0.00000000015\n")
    assert problem.startswith("2:")
    assert "more than nine decimals" in problem


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_a_webhook_takes_its_secret_from_the_environment(tmp_path: Path) -> None:
    """Without `events`, all are told; neither the secret nor an address with a token in it shows in a repr."""
    text = "webhooks:\n  - {url: 'https://ops.example/${TOKEN}', secret: '${SIGN}'}\n"
    [webhook] = load(write_policy(tmp_path, BASE + text), SIGN="s3cret", TOKEN="t0ken").webhooks
    assert webhook == Webhook("https://ops.example/t0ken", "s3cret", frozenset(WebhookEvent))
    assert "s3cret" not in repr(webhook)
    assert "t0ken" not in repr(webhook)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("url: 'ftp://ops.example', secret: '${SIGN}'", "url must begin with https:// or http://"),
        ("url: 'https://', secret: '${SIGN}'", "url must begin with https:// or http://"),
        ("url: 'https://ops.example', secret: plain-s3cret", "secret must come from the environment"),
        ("url: 'https://ops.example', secret: '${MISSING}'", "environment variable MISSING is not set"),
        ("url: 'https://ops.example', secret: '${EMPTY}'", "secret is empty"),
        ("url: 'https://ops.example', secret: '${SIGN}', events: [cap_wanred]", "cap_warned"),
        ("url: 'https://ops.example', secret: '${SIGN}', events: []", "at least 1 item"),
        ("url: 'https://ops.example'", "secret"),
        ("url: 'https://ops.example', secret: '${SIGN}', event: [cap_warned]", "did you mean 'events'?"),
    ],
)
def test_webhooks_that_are_none(tmp_path: Path, written: str, said: str) -> None:
    """An address that nobody can call, a secret that is in the file or nowhere, events that do not exist."""
    [problem, *_] = problems(tmp_path, f"webhooks:\n  - {{{written}}}\n", SIGN="s3cret", EMPTY="")
    assert problem.startswith("2:")
    assert said in problem
    assert "s3cret" not in problem


def test_a_set_is_checked_without_its_environment(tmp_path: Path) -> None:
    """`sluice check` knows no secrets; an address in a variable is taken for one."""
    text = "webhooks:\n  - {url: '${URL}', secret: '${SIGN}'}\n"
    path = write_policy(tmp_path, BASE + text)
    assert len(load_policy([path], environ={}, now_us=NOW_US, assume_deployed=True).webhooks) == 1
