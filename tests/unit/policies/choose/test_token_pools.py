"""Pools that are billed by the token: their rows, their books, and where they stand among pools of GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.choose.decide import decide
from policies.choose.decision import Reason
from policies.choose.facts import CachedPrefix
from policies.compile.load import load_policy
from policies.explain.sentences import sentence
from policies.policy import Policy
from policies.requirements import Continues, Tier
from pools.spec import API_ENGINE, Feature, ModelKind
from pricing.errors import FileProblem
from support.choosing import NOW_US, WARM, facts, load, needs, write_policy
from support.values import replace

DAY_US = 86_400_000_000
BOOK = """\
id: {id}
title: An API's prices
provider: example
source: its price page
as_of: null
effective_from: {begins}
currency: USD
per_million_tokens:
  - {{model: mini, input_usd: {usd}, cached_input_usd: {cached}, output_usd: 0.60}}
"""
POLICY = """\
version: 1
price_book: modal-2026-10
price_books: [books]
classes:
  chat: {ladder: {premium: [mini-api, qwen3-4b-bf16-a10]}}
pools:
  mini-api:
    billed_by: tokens
    served_model_name: mini
    price_book: [api-1, api-2]
    max_model_len: 32768
"""
ASKED = needs("chat", Tier.PREMIUM, prompt=10_000, output=500)
COSTS_NUSD = 10_000 * 150 + 500 * 600


def policy(folder: Path, text: str = POLICY, *, first_usd: str = "0.15") -> Policy:
    (folder / "books").mkdir(exist_ok=True)
    for id, begins, usd in (("api-1", "null", first_usd), ("api-2", "2026-01-02", "0.30")):
        write_policy(folder / "books", BOOK.format(id=id, begins=begins, usd=usd, cached=0.05), f"{id}.yaml")
    return load(write_policy(folder, text))


def test_a_row_has_nothing_of_containers(tmp_path: Path) -> None:
    """No GPU, no boot, and any number of tokens in memory; its model stands for itself."""
    made = policy(tmp_path)
    pool = made.pools["mini-api"]
    assert (pool.gpu.id, pool.engine, pool.model.id, pool.model.kind) == ("api", API_ENGINE, "mini", ModelKind.TEXT)
    assert pool.features == {Feature.TOOLS, Feature.JSON_SCHEMA}
    assert (made.boots_s["mini-api"], made.rates["mini-api"].nusd_per_h) == (0.0, 0)


def test_its_own_books_follow_one_another(tmp_path: Path) -> None:
    """The policy's book prices the GPUs, and the pool's own its tokens; the later one takes effect at its day."""
    made = policy(tmp_path)
    assert (made.price_book, made.rates["mini-api"].book) == ("modal-2026-10", "api-1")
    [change] = made.rate_changes
    assert (change.at_us, change.book, set(change.rates)) == (NOW_US + DAY_US, "api-2", {"mini-api"})
    assert [Path(name).name for name in made.files if "/books/api" in name] == ["api-1.yaml", "api-2.yaml"]


def test_the_version_tells_which_of_its_books_is_in_force(tmp_path: Path) -> None:
    """The same files mean other prices on another day."""
    before = policy(tmp_path)
    after = load_policy([tmp_path / "policy.yaml"], environ={}, now_us=NOW_US + 2 * DAY_US)
    assert after.rates["mini-api"].book == "api-2"
    assert before.version != after.version


def test_bill_and_charge_are_its_tokens(tmp_path: Path) -> None:
    """Nothing is booted and nothing idle: what the tenant pays is what the provider asks for."""
    made = policy(tmp_path)
    decision = decide(facts(ASKED, made.classes["chat"], {"qwen3-4b-bf16-a10": WARM}))
    one = next(one for one in decision.candidates if one.pool.name == "mini-api")
    assert one.expected_bill_nusd == one.expected_charge_nusd == COSTS_NUSD
    assert (one.boot_nusd, one.wait_s, one.cold) == (0, 0.0, False)
    assert one.share_nusd_per_h == 600 * 50 * 3600  # 50 tokens a second, by its row
    assert one.expected_s == pytest.approx(1.0 + 500 / 50)


def test_it_wins_over_a_boot_and_loses_to_a_warm_pool(tmp_path: Path) -> None:
    """The crossing that tokens and seconds have: a boot costs more than a request's tokens, a warm second less."""
    chat = policy(tmp_path, first_usd="0.60").classes["chat"]
    asleep = decide(facts(ASKED, chat)).chosen
    busy = replace(WARM, idle_s=None, in_flight=3)
    short = needs("chat", Tier.PREMIUM, prompt=6_000, output=100)
    warm = decide(facts(short, chat, {"qwen3-4b-bf16-a10": busy})).chosen
    assert asleep is not None
    assert warm is not None
    assert (asleep.pool.name, warm.pool.name) == ("mini-api", "qwen3-4b-bf16-a10")


def test_a_session_that_its_cache_knows_is_cheaper_to_sort_by_alone(tmp_path: Path) -> None:
    """Cached prompt tokens come off the score; holds and budgets are judged as if the cache were gone."""
    chat = policy(tmp_path).classes["chat"]
    cached = CachedPrefix("mini-api", 8_000, NOW_US)
    one = decide(facts(ASKED, chat, cached=cached)).chosen
    assert one is not None
    assert one.cache_saves_nusd == 8_000 * (150 - 50)
    assert (one.expected_charge_nusd, one.score) == (COSTS_NUSD, COSTS_NUSD - one.cache_saves_nusd)
    old = replace(cached, used_us=NOW_US - 3600 * 1_000_000)
    assert [each.cache_saves_nusd for each in decide(facts(ASKED, chat, cached=old)).candidates] == [0, 0]


def test_what_is_too_long_for_it_is_refused(tmp_path: Path) -> None:
    """It has a context like every other pool, and no memory that could be too small."""
    chat = policy(tmp_path).classes["chat"]
    decision = decide(facts(needs("chat", Tier.PREMIUM, prompt=32_000, output=1_000), chat))
    refused = next(one for one in decision.rejected if one.pool == "mini-api")
    assert refused.reason is Reason.CONTEXT


def test_it_does_not_go_on_with_another_pools_text(tmp_path: Path) -> None:
    """An API answers a message; that the last one is half of its own it does not know."""
    chat = policy(tmp_path).classes["chat"]
    broken = replace(ASKED, continues=Continues(None, by_text=True))
    refused = next(one for one in decide(facts(broken, chat)).rejected if one.pool == "mini-api")
    assert refused.reason is Reason.TOKENIZER
    assert sentence(refused) == "would answer the text of an answer that broke, not go on with it"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("served_model_name: mini", "served_model_name: mimi"), "no price for tokens of 'mimi' in book 'api-1'"),
        (("[api-1, api-2]", "[api-3]"), r"policy.yaml:7: pool 'mini-api': there is no price book 'api-3'"),
        (("[api-1, api-2]", "api-2"), r"policy.yaml:7: pool 'mini-api': no price book is in force yet"),
        (("max_model_len: 32768", "gpu: L4"), r"policy.yaml"),
        (("max_model_len: 32768", "max_model_len: 9\n    model: flux-schnell"), r"'flux-schnell' makes images"),
        (("max_model_len: 32768", "max_model_len: 9\n    features: [vision]"), "'image_tokens_max' is missing"),
        (("    price_book: [api-1, api-2]\n", ""), "no price for tokens of 'mini' in book 'modal-2026-10'"),
    ],
)
def test_what_is_wrong_with_a_row_has_its_place(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """A pool without a price, a book or a context is refused before it could serve."""
    assert change[0] in POLICY
    with pytest.raises(FileProblem, match=says):
        policy(tmp_path, POLICY.replace(*change))
