"""docs/platforms.md: its examples load as they stand, and its tables have every key."""

from __future__ import annotations

from pathlib import Path

from policies.files.schema import DeploymentShape, KubernetesShape
from pools.catalog.schema import TokenPoolRow
from support.choosing import load, write_policy
from support.docs import blocks
from support.repository import ROOT

PAGE = ROOT / "docs" / "platforms.md"
TEXT = PAGE.read_text(encoding="utf-8")
BASE = """\
version: 1
price_book: modal-2026-10
classes: {chat: {ladder: {premium: [qwen3-4b-bf16-a10]}}}
endpoints: {qwen3-4b-bf16-a10: {url: "http://vllm.models.svc"}}
"""


def example(page: Path, heading: str) -> str:
    return next(block.text for block in blocks(page) if block.text.startswith(f"# {heading}\n"))


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def test_the_example_of_kubernetes_loads(tmp_path: Path) -> None:
    """Under `platform:`, beside an endpoint."""
    made = load(write_policy(tmp_path, f"{BASE}platform:\n{indented(example(PAGE, 'platform'))}"))
    assert made.kubernetes is not None
    assert made.kubernetes.deployments["qwen3-4b-bf16-a10"].scale_to_zero


def test_the_example_of_an_endpoint_loads(tmp_path: Path) -> None:
    """A plain server, always there."""
    text = BASE[: BASE.index("endpoints")] + f"endpoints:\n{indented(example(PAGE, 'endpoints'))}"
    assert load(write_policy(tmp_path, text)).endpoints["qwen3-4b-bf16-a10"].always_on == 1


def test_the_example_of_tokens_loads_with_the_price_book_of_the_other_page(tmp_path: Path) -> None:
    """The policy of this page names the book that docs/price-books.md shows."""
    (tmp_path / "prices").mkdir()
    write_policy(tmp_path / "prices", example(ROOT / "docs" / "price-books.md", "price book"), "api.yaml")
    text = example(PAGE, "a policy beside a folder of prices")
    made = load(write_policy(tmp_path, text), EXAMPLE_API_KEY="k")
    assert made.rates["small-chat-api"].tokens is not None


def test_every_key_is_on_the_page() -> None:
    """Of pools that are billed by the token, of clusters and of Deployments."""
    for shape in (TokenPoolRow, KubernetesShape, DeploymentShape):
        missing = [name for name in shape.model_fields if f"`{name}`" not in TEXT and f"{name}:" not in TEXT]
        assert missing == []
