"""The command about pools that are billed by the token, and other pools that Modal does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.deploy.pools import wanted_pools
from pricing.errors import FileProblem
from router.cli.main import app
from support.choosing import NOW_US, write_policy

BOOK = """\
id: api-1
title: An API's prices
provider: example
source: its price page
as_of: 2026-11-01
effective_from: null
currency: USD
per_million_tokens:
  - {model: mini, input_usd: 0.15, cached_input_usd: 0.0375, output_usd: 12.5, note: small}
"""
POLICY = """\
version: 1
price_book: modal-2026-10
price_books: [books]
classes: {chat: {ladder: {premium: [ours, mini-api, plain, clustered]}}}
pools:
  ours: {extends: qwen3-4b-bf16-a10}
  plain: {extends: qwen3-4b-bf16-a10}
  clustered: {extends: qwen3-4b-bf16-a10}
  mini-api: {billed_by: tokens, served_model_name: mini, price_book: api-1, max_model_len: 32768}
endpoints:
  plain: {url: "http://plain.example", always_on: 1}
  mini-api: {url: "http://api.example"}
platform:
  modal: {}
  kubernetes: {deployments: {clustered: {name: vllm}}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "books").mkdir()
    write_policy(tmp_path / "books", BOOK, "api.yaml")
    return write_policy(tmp_path, POLICY)


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_prices_of_tokens_are_shown(policy: Path) -> None:
    """A book of tokens has its table and nothing of containers; the list says what it has."""
    page = run("prices", "api-1", "--books", policy.parent / "books")
    assert [line.split() for line in page.splitlines() if line.strip().startswith("mini")] == [
        ["mini", "0.15", "0.0375", "12.50", "small"]
    ]
    assert "image pull" not in page
    assert "tokens of 1 models" in run("prices", "--books", policy.parent / "books")
    found = json.loads(run("prices", "api-1", "--books", policy.parent / "books", "--json"))
    assert found["per_million_tokens"] == [
        {"model": "mini", "input_usd": 0.15, "cached_input_usd": 0.0375, "output_usd": 12.5, "note": "small"}
    ]


def test_check_takes_the_book_and_the_policy(policy: Path) -> None:
    """Both are right by themselves."""
    run("check", policy.parent / "books")
    run("check", policy)


def test_explain_shows_both_kinds(policy: Path) -> None:
    """With every pool of GPUs asleep the tokens are cheaper than a boot."""
    text = run("explain", "--policy", policy, "--class", "chat", "--prompt-tokens", "1000", "--max-tokens", "100")
    assert "→ mini-api (billed by the token)" in text


def test_only_what_modal_runs_is_deployed(policy: Path) -> None:
    """The rest is left out of a plan with its reason, and refused by name."""
    wanted = wanted_pools([policy], [], NOW_US)
    assert list(wanted.pools) == ["ours"]
    reasons = dict(line.split(": pool ", 1)[1].split(": ", 1) for line in wanted.left_out)
    assert reasons == {
        "'mini-api'": "it is billed by the token; nothing of it is deployed",
        "'plain'": "it is a plain server, always_on under endpoints:",
        "'clustered'": "it is a Deployment of Kubernetes (platform: kubernetes:)",
    }
    with pytest.raises(FileProblem, match=r"policy.yaml:9: pool 'mini-api': it is billed by the token"):
        wanted_pools([policy], ["mini-api"], NOW_US)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("simulate", "--pool", "mini-api", "--policy"), "it has no containers to simulate"),
        (("measure", "mini-api", "--policy"), "write first_token_s and tokens_per_s"),
    ],
)
def test_what_needs_a_gpu_says_so(policy: Path, arguments: tuple[str, ...], says: str) -> None:
    """No simulation and no calibration of somebody else's machines."""
    result = CliRunner().invoke(app, [*arguments, str(policy)])
    assert result.exit_code != 0
    assert says in (result.output + str(result.exception))
